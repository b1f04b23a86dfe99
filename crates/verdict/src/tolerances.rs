//! What counts as worse, how sure to be, and how long to look: every number of the decision in one place.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings of the decision. Every field has a default; times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tolerances {
    /// Largest tolerated growth of the p95 latency, as a share of it: 0.2 is +20 %.
    pub latency_ratio: f64,
    /// A growth of the p95 latency below so many milliseconds is always tolerated.
    pub latency_floor_ms: f64,
    /// Largest tolerated growth of the share of failed requests: 0.005 is +0.5 percentage points.
    pub error_points: f64,
    /// Largest tolerated multiple of the share of failed requests, where it is below `error_points` in absolute terms.
    pub error_ratio: f64,
    /// A growth of the share of failed requests below this is tolerated whatever its multiple: 0.001 is 0.1 points.
    pub error_floor: f64,
    /// Share of requests below which a new exception is tolerated.
    pub exception_share: f64,
    /// A new exception counts from so many occurrences on.
    pub exception_count_min: u64,
    /// Share of failed requests that is tolerated where nothing can be compared: of an operation that only the candidate
    /// has, or of a service without a past.
    pub slo_errors: f64,
    /// Times as many calls to a callee a request, or as few, are tolerated.
    pub calls_ratio: f64,
    /// Largest tolerated loss of requests of the whole service, as a share of them.
    pub throughput_drop: f64,
    /// Largest tolerated change of a metric's level in its bad direction, as a share of it.
    pub metric_ratio: f64,
    /// A candidate that is to serve and does not for so long is silent.
    pub silence_s: u64,
    /// Probability that a harmless deploy is ever called regressed, however often one looks.
    pub alpha: f64,
    /// Error probability of each confidence bound that is held against a tolerance.
    pub bound_alpha: f64,
    /// Fewer candidate requests than this are no ground for any answer.
    pub requests_min: u64,
    /// A pass is not decided earlier than this after the candidate's first request.
    pub watch_min_s: u64,
    /// Looking ends this long after the start; what is not shown by then is inconclusive.
    pub watch_max_s: u64,
    /// History before the start that serves as reference.
    pub lookback_s: u64,
    /// Latency of young instances is left out for so long where no control of the same age exists.
    pub warm_up_s: u64,
    /// A regression has gone away once the candidate has been well for so long.
    pub recovery_s: u64,
    /// Overdispersion is never taken to be larger than this, unless the time before the deploy shows that it is.
    pub dispersion_max: f64,
    /// Before/after only: rate ratio that mere time of day may explain.
    pub drift_ratio: f64,
    /// Before/after only: factor by which evidence is tempered further.
    pub drift_caution: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self {
            latency_ratio: 0.2,
            latency_floor_ms: 10.0,
            error_points: 0.005,
            error_ratio: 2.0,
            error_floor: 0.001,
            exception_share: 0.001,
            exception_count_min: 5,
            slo_errors: 0.05,
            calls_ratio: 1.5,
            throughput_drop: 0.5,
            metric_ratio: 0.5,
            silence_s: 300,
            alpha: 0.01,
            bound_alpha: 0.1,
            requests_min: 50,
            watch_min_s: 120,
            watch_max_s: 1_800,
            lookback_s: 3_600,
            warm_up_s: 10,
            recovery_s: 180,
            dispersion_max: 8.0,
            drift_ratio: 1.25,
            drift_caution: 1.5,
        }
    }
}

/// One setting, to be set.
enum Setting<'a> {
    Real(&'a mut f64),
    Whole(&'a mut u64),
}

impl Tolerances {
    /// Seconds for which what a deploy is judged by is kept at most, before and since its start together.
    pub const KEPT_MAX_S: u64 = 86_400;

    /// Names of all settings.
    pub const KEYS: [&'static str; 23] = [
        "latency_ratio",
        "latency_floor_ms",
        "error_points",
        "error_ratio",
        "error_floor",
        "exception_share",
        "exception_count_min",
        "slo_errors",
        "calls_ratio",
        "throughput_drop",
        "metric_ratio",
        "silence_s",
        "alpha",
        "bound_alpha",
        "requests_min",
        "watch_min_s",
        "watch_max_s",
        "lookback_s",
        "warm_up_s",
        "recovery_s",
        "dispersion_max",
        "drift_ratio",
        "drift_caution",
    ];

    /// Sets one by its name.
    ///
    /// # Errors
    /// There is no such setting, or it takes whole numbers only.
    pub fn set(&mut self, key: &str, value: f64) -> Result<(), String> {
        match self.setting(key) {
            Some(Setting::Real(setting)) => *setting = value,
            Some(Setting::Whole(setting)) if value >= 0.0 && value.fract() == 0.0 && value < 1e15 => {
                // In range and without a fraction: exact.
                *setting = value as u64;
            }
            Some(Setting::Whole(_)) => return Err(format!("`{key}` is {value}: set it to a whole number")),
            None => return Err(format!("`{key}` is no tolerance")),
        }
        Ok(())
    }

    fn setting(&mut self, key: &str) -> Option<Setting<'_>> {
        Some(match key {
            "latency_ratio" => Setting::Real(&mut self.latency_ratio),
            "latency_floor_ms" => Setting::Real(&mut self.latency_floor_ms),
            "error_points" => Setting::Real(&mut self.error_points),
            "error_ratio" => Setting::Real(&mut self.error_ratio),
            "error_floor" => Setting::Real(&mut self.error_floor),
            "exception_share" => Setting::Real(&mut self.exception_share),
            "exception_count_min" => Setting::Whole(&mut self.exception_count_min),
            "slo_errors" => Setting::Real(&mut self.slo_errors),
            "calls_ratio" => Setting::Real(&mut self.calls_ratio),
            "throughput_drop" => Setting::Real(&mut self.throughput_drop),
            "metric_ratio" => Setting::Real(&mut self.metric_ratio),
            "silence_s" => Setting::Whole(&mut self.silence_s),
            "alpha" => Setting::Real(&mut self.alpha),
            "bound_alpha" => Setting::Real(&mut self.bound_alpha),
            "requests_min" => Setting::Whole(&mut self.requests_min),
            "watch_min_s" => Setting::Whole(&mut self.watch_min_s),
            "watch_max_s" => Setting::Whole(&mut self.watch_max_s),
            "lookback_s" => Setting::Whole(&mut self.lookback_s),
            "warm_up_s" => Setting::Whole(&mut self.warm_up_s),
            "recovery_s" => Setting::Whole(&mut self.recovery_s),
            "dispersion_max" => Setting::Real(&mut self.dispersion_max),
            "drift_ratio" => Setting::Real(&mut self.drift_ratio),
            "drift_caution" => Setting::Real(&mut self.drift_caution),
            _ => return None,
        })
    }

    /// Returns how long looking goes on.
    pub fn watch_max(&self) -> Duration {
        Duration::from_secs(self.watch_max_s)
    }

    /// Returns how much history before the start is wanted.
    pub fn lookback(&self) -> Duration {
        Duration::from_secs(self.lookback_s)
    }

    /// Lists every setting that makes no sense, each with the range it must lie in.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut within = |name: &str, value: f64, low: f64, high: f64| {
            if !(value >= low && value <= high) {
                problems.push(format!("`{name}` is {value}: set it between {low} and {high}"));
            }
        };
        within("latency_ratio", self.latency_ratio, 0.01, 100.0);
        within("latency_floor_ms", self.latency_floor_ms, 0.0, 3.6e6);
        within("error_points", self.error_points, 1e-5, 1.0);
        within("error_ratio", self.error_ratio, 1.01, 1_000.0);
        within("error_floor", self.error_floor, 0.0, 1.0);
        within("exception_share", self.exception_share, 0.0, 1.0);
        within("slo_errors", self.slo_errors, 1e-5, 0.9);
        within("calls_ratio", self.calls_ratio, 1.05, 100.0);
        within("throughput_drop", self.throughput_drop, 0.05, 0.99);
        within("metric_ratio", self.metric_ratio, 0.01, 100.0);
        within("silence_s", self.silence_s as f64, 30.0, 86_400.0);
        within("alpha", self.alpha, 1e-9, 0.5);
        within("bound_alpha", self.bound_alpha, 1e-9, 0.5);
        within("dispersion_max", self.dispersion_max, 1.0, 1_000.0);
        within("drift_ratio", self.drift_ratio, 1.0, 100.0);
        within("drift_caution", self.drift_caution, 1.0, 100.0);
        within("watch_max_s", self.watch_max_s as f64, 60.0, 7.0 * 86_400.0);
        within("lookback_s", self.lookback_s as f64, 60.0, 7.0 * 86_400.0);
        within("recovery_s", self.recovery_s as f64, 10.0, 86_400.0);
        let needed = self.lookback_s.saturating_add(self.watch_max_s);
        if needed > Self::KEPT_MAX_S {
            problems.push(format!(
                "`lookback_s` {} and `watch_max_s` {} add up to {needed}, and no more than {} s are kept for a deploy: lower one \
                 of them",
                self.lookback_s,
                self.watch_max_s,
                Self::KEPT_MAX_S
            ));
        }
        if self.watch_min_s > self.watch_max_s {
            problems.push(format!(
                "`watch_min_s` is {}, more than `watch_max_s` {}: set it lower",
                self.watch_min_s, self.watch_max_s
            ));
        }
        problems
    }
}
