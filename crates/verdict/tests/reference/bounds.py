"""Reference values for the tests of rates and e-processes, computed with SciPy independently of the Rust code.

Run: python3 bounds.py > bounds.json   (SciPy 1.17)
"""

import json
import math

from scipy.optimize import brentq
from scipy.special import betaln
from scipy.stats import beta, binom


def mixture(theta, bad, n, a=0.5, b=10.0):
    log = betaln(a + bad, b + n - bad) - betaln(a, b)
    hits = bad * math.log(theta) if bad else 0.0
    return log - hits - (n - bad) * math.log1p(-theta)


def bounds(bad, n, alpha):
    level = math.log(1 / alpha)
    f = lambda theta: mixture(theta, bad, n) - level
    low = brentq(f, 1e-14, bad / n, xtol=1e-14) if bad else 0.0
    high = brentq(f, max(bad / n, 1e-14), 1 - 1e-12, xtol=1e-14)
    return low, high


RATIOS = [1.1, 1.25, 1.5, 2, 3, 5, 8, 13, 20, 30]
WEIGHTS = [0.03, 0.10, 0.15, 0.20, 0.17, 0.13, 0.08, 0.06, 0.04, 0.04]


def log_e(strata, r0, eta):
    """Through binomial probabilities, not through the simplified form of the code."""
    logs = []
    for k in RATIOS:
        log = 0.0
        for bad_b, n_b, bad_a, n_a in strata:
            m = bad_a + bad_b
            p0 = r0 * n_b / (n_a + r0 * n_b)
            p1 = k * r0 * n_b / (n_a + k * r0 * n_b)
            log += eta * (binom.logpmf(bad_b, m, p1) - binom.logpmf(bad_b, m, p0))
        logs.append(log)
    return math.log(sum(w * math.exp(x) for w, x in zip(WEIGHTS, logs)))


cases = [(0, 200), (0, 2000), (1, 150), (7, 150), (50, 1000), (1000, 100000)]
strata = [(5, 50, 10, 950), (0, 40, 9, 900), (7, 55, 12, 990)]
print(
    json.dumps(
        {
            "bounds": [
                {"bad": bad, "n": n, "alpha": alpha, "low": bounds(bad, n, alpha)[0], "high": bounds(bad, n, alpha)[1]}
                for bad, n in cases
                for alpha in (0.05, 0.01)
            ],
            # An anytime-valid bound is wider than the fixed-sample one of Clopper and Pearson.
            "clopper_pearson": [
                {"bad": bad, "n": n, "alpha": 0.05, "high": float(beta.ppf(0.95, bad + 1, n - bad))} for bad, n in cases
            ],
            "e_process": [
                {"strata": strata, "null_ratio": r0, "eta": eta, "log_e": log_e(strata, r0, eta)}
                for r0 in (1.0, 1.5, 3.0)
                for eta in (1.0, 0.5)
            ],
        },
        indent=1,
    )
)
