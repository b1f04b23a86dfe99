//! Two values of attributes that explain an excess of failures together, where neither does alone.
//!
//! A fault of one region on one platform fails requests that share both, and half of the requests of either are well. Cells count
//! single values and draw a few requests with all their values: of the failed ones, and of the others. Among those drawn that had
//! one value, the share that had the other, too, is set against the counts of the one.
//!
//! *Rule.* The shorter explanation is preferred. A pair is told where it tells as a single value must ([`Part::tells`]), and
//!
//! - keeps [`KEPT_MIN`] of what each of its values explains, and of what the best single value does,
//! - on at most [`NARROWER_MAX`] of the requests of any of them,
//! - and each of its values is more common among the failures that have the other than among the successes that do, by Fisher's
//!   exact test at [`SURE`], divided by the number of pairs that were looked at.
//!
//! A value that always comes with the other narrows nothing, and one of two that chance brought together does not pass the test.
//!
//! *Cost.* A pass over the requests drawn; pairs of [`HEAVY_MAX`] values.
//!
//! *Source.* Bhagwan et al., "Adtributor" (NSDI 2014), for preferring what is short; Li et al., "Generic and Robust Localization of
//! Multi-Dimensional Root Causes" (Squeeze, ISSRE 2019), for what lies below a cause failing alike; Fisher, "On the interpretation
//! of chi-squared from contingency tables, and the calculation of P" (1922).

use plimsoll_model::drill::Draws;
use plimsoll_model::signal::OperationCell;
use plimsoll_model::verdict::Common;

use crate::design::Cells;
use crate::drill::{EXPLAINED_MIN, Excess, Part, Single};
use crate::rate::ln_gamma;

/// Part of what a single value explains that a pair must explain.
const KEPT_MIN: f64 = 0.85;
/// Part of the requests of a single value that a pair may have.
const NARROWER_MAX: f64 = 2.0 / 3.0;
/// Error probability of the test, for all pairs together.
const SURE: f64 = 0.01;
/// Values of which pairs are looked at: those that explain most.
const HEAVY_MAX: usize = 12;

/// Finds the pair that explains the excess better than `best`, the part of the single value that does.
pub(crate) fn of(
    excess: &Excess<'_>,
    best: Option<Part>,
    candidate: &Cells<'_>,
    control: &Cells<'_>,
) -> Option<Common> {
    // What a pair explains each of its values does.
    let mut heavy: Vec<&Single<'_>> =
        excess.values.iter().filter(|single| single.own() >= EXPLAINED_MIN * excess.amount).collect();
    heavy.sort_by(|a, b| b.own().total_cmp(&a.own()).then_with(|| a.value.cmp(b.value)));
    heavy.truncate(HEAVY_MAX);
    let pairs: Vec<(usize, usize)> = (0..heavy.len())
        .flat_map(|b| (0..b).map(move |a| (a, b)))
        .filter(|(a, b)| heavy[*a].value.attribute != heavy[*b].value.attribute)
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let drawn = Drawn {
        failed: drawn(candidate, &heavy, |cell| (&cell.failed_draws, cell.errors)),
        good: drawn(candidate, &heavy, |cell| (&cell.good_draws, cell.requests.saturating_sub(cell.errors))),
        usual: drawn(control, &heavy, |cell| (&cell.failed_draws, cell.errors)),
    };
    let level = SURE / pairs.len() as f64;
    let told = pairs.into_iter().filter_map(|(a, b)| {
        let part = drawn.pair(excess, (heavy[a], 1 << a), (heavy[b], 1 << b), level)?;
        let better = best
            .is_none_or(|best| part.explained >= KEPT_MIN * best.explained && part.share <= NARROWER_MAX * best.share);
        let mut names = [heavy[a].name(), heavy[b].name()];
        names.sort_unstable();
        (part.tells() && better).then_some((part, names))
    });
    let most = told.max_by(|(a, mine), (b, theirs)| a.worth().total_cmp(&b.worth()).then_with(|| theirs.cmp(mine)));
    most.map(|(part, [first, second])| part.common(first, Some(second)))
}

/// Requests drawn: how many each stands for, and which of the values it had, one bit each.
type Marked = Vec<(f64, u16)>;

/// Requests drawn of the candidate, and failures drawn of the control.
struct Drawn {
    failed: Marked,
    good: Marked,
    usual: Marked,
}

/// Marks the requests drawn of cells, each standing for as many as were counted for each that was drawn.
fn drawn<'a>(cells: &Cells<'a>, heavy: &[&Single<'_>], of: impl Fn(&'a OperationCell) -> (&'a Draws, u64)) -> Marked {
    let mut marked = Marked::new();
    for (_, _, cell) in cells {
        let (draws, counted) = of(cell);
        let weight = counted as f64 / draws.0.len().max(1) as f64;
        marked.extend(draws.0.iter().map(|draw| {
            let bits = heavy.iter().enumerate().map(|(at, single)| u16::from(draw.has(single.value)) << at);
            (weight, bits.sum::<u16>())
        }));
    }
    marked
}

/// How many of the requests drawn that had one value had another, too.
#[derive(Debug, Clone, Copy, Default)]
struct Among {
    one: u64,
    both: u64,
    weight_one: f64,
    weight_both: f64,
}

impl Among {
    fn of(marked: &Marked, one: u16, other: u16) -> Self {
        let mut among = Self::default();
        for (weight, bits) in marked.iter().filter(|(_, bits)| bits & one != 0) {
            among.one += 1;
            among.weight_one += weight;
            if bits & other != 0 {
                among.both += 1;
                among.weight_both += weight;
            }
        }
        among
    }

    /// Returns the share; `None` where none was drawn.
    fn share(self) -> Option<f64> {
        (self.weight_one > 0.0).then(|| self.weight_both / self.weight_one)
    }
}

impl Drawn {
    /// Returns the part that two values have together, where it is clearly less than that of either.
    fn pair(&self, excess: &Excess<'_>, a: (&Single<'_>, u16), b: (&Single<'_>, u16), level: f64) -> Option<Part> {
        // What narrows the rarer narrows the other.
        let ((rarer, one), (other, two)) = if a.0.requests <= b.0.requests { (a, b) } else { (b, a) };
        let sure = [(one, two), (two, one)].into_iter().all(|(given, more)| {
            let (bad, good) = (Among::of(&self.failed, given, more), Among::of(&self.good, given, more));
            more_common((bad.both, bad.one), (good.both, good.one)) <= level
        });
        if !sure {
            return None;
        }
        let errors = Among::of(&self.failed, one, two).share()? * rarer.sum;
        let good = Among::of(&self.good, one, two).share()? * (rarer.requests - rarer.sum).max(0.0);
        let requests = errors + good;
        // Where nothing tells which of the failures of the control had both, they are as many as requests.
        let usual = Among::of(&self.usual, one, two).share().unwrap_or(requests / rarer.requests.max(1.0));
        let own = errors - usual * rarer.usual;
        let kept = own >= KEPT_MIN * rarer.own().max(other.own());
        (kept && requests <= NARROWER_MAX * rarer.requests).then(|| excess.part(own, requests))
    }
}

/// Returns how likely chance alone makes a mark as common as `x` of `n`, where it is found on `y` of `m` others: one-sided p-value
/// of Fisher's exact test.
fn more_common((x, n): (u64, u64), (y, m): (u64, u64)) -> f64 {
    let (marked, all) = (x + y, n + m);
    let ln_choose = |n: u64, k: u64| {
        let of = |n: u64| ln_gamma(n as f64 + 1.0);
        of(n) - of(k) - of(n - k)
    };
    // No more than are marked, and no fewer than leave room for the rest.
    let possible = x.max(n.saturating_sub(all - marked))..=n.min(marked);
    let each = possible.map(|k| (ln_choose(marked, k) + ln_choose(all - marked, n - k) - ln_choose(all, n)).exp());
    each.sum::<f64>().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_test_agrees_with_sums_of_fractions() {
        // Tails of the hypergeometric distribution, added up in whole numbers.
        for (bad, good, expected) in [
            ((8, 8), (2, 6), 0.014_985_014_985_014_986),
            ((24, 24), (2, 6), 0.000_547_345_374_931_581_8),
            ((3, 10), (3, 10), 0.685_758_513_931_888_6),
            ((60, 80), (40, 90), 4.339_523_372_463_794e-5),
            ((0, 5), (0, 5), 1.0),
            ((1, 1), (0, 0), 1.0),
        ] {
            let found = more_common(bad, good);
            assert!((found / expected - 1.0).abs() < 1e-8, "{bad:?} {good:?}: {found}");
        }
    }
}
