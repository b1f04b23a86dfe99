//! What a scenario declares: deploys, what they break, what goes on beside, and which verdict is right.

use serde::Serialize;

/// How traffic comes to a new version.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Strategy {
    /// A share of requests, for good.
    Canary(f64),
    /// All of them from the start.
    AtOnce,
    /// In four steps over so many seconds.
    Rolling(f64),
}

impl Strategy {
    /// Share of requests that the new version gets `since` seconds after its start.
    pub(super) fn share(self, since: f64) -> f64 {
        if since < 0.0 {
            return 0.0;
        }
        match self {
            Self::Canary(share) => share,
            Self::AtOnce => 1.0,
            Self::Rolling(over) => (0.25 * (1.0 + (4.0 * since / over).floor())).min(1.0),
        }
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Canary(share) => write!(f, "canary {:.0} %", share * 100.0),
            Self::AtOnce => f.write_str("at once"),
            Self::Rolling(over) => write!(f, "rolling {over:.0} s"),
        }
    }
}

/// The right verdict on a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Expected {
    /// It made something worse; by which service and, where it matters, in which operation.
    Regressed {
        /// The service that is to be named first.
        culprit: &'static str,
        /// Its operation; empty where any will do.
        operation: &'static str,
    },
    /// It made nothing worse: anything but `regressed` is right.
    Harmless,
    /// Too little traffic to say anything.
    Inconclusive,
    /// Either: another deploy of the scenario carries the blame.
    Either,
}

/// One deploy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deploy {
    pub(super) service: &'static str,
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    pub(super) strategy: Strategy,
    /// Seconds after the start of the scenario.
    pub(super) at_s: f64,
    /// Seconds between its start and the marker; `None`: nobody marks it.
    pub(super) marked_s: Option<f64>,
    pub(super) expected: Expected,
}

/// What a fault does to a request, or to the service.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    /// A share of requests fails with an exception.
    Fail(f64, &'static str),
    /// A share of requests takes `times` as long and so many milliseconds more.
    Slow { share: f64, times: f64, add_ms: f64 },
    /// A share of requests waits so many milliseconds and fails.
    Hang(f64, f64),
    /// A share of requests meets an exception, logs it, and says that all is well.
    Swallow(f64, &'static str),
    /// A share of requests logs an error message and nothing else.
    Complain(f64, &'static str),
    /// Messages of the ordinary course are worded differently.
    Reword,
    /// So many ordinary messages a request instead of a fifth.
    Chatter(usize),
    /// The class of the exceptions that always were has another name.
    RenameException,
    /// A route has another name.
    Rename(&'static str, &'static str),
    /// A share of what callers want never reaches it, and nobody fails.
    Unreached(f64),
    /// It runs for so long, then is gone for so long.
    CrashLoop { up_s: f64, down_s: f64 },
    /// It never comes up.
    Dead,
    /// Resident memory grows by so many MiB a minute.
    Leak(f64),
    /// Resident memory settles at so many times what it was.
    Memory(f64),
    /// It calls a callee so many times instead of once.
    Repeat(&'static str, usize),
    /// New instances are so many times slower, which wears off with a time constant in seconds.
    ColdStart(f64, f64),
    /// It calls another version of a callee.
    CallsVersion(&'static str, &'static str),
    /// A share of its calls to a callee are such that they fail there, with an exception.
    Misuses(&'static str, f64, &'static str),
    /// A share of orders is lost without a word.
    LoseOrders(f64),
}

/// What a version of a service does wrong, or differently, since the start of its deploy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) service: &'static str,
    /// The version that bears it.
    pub(super) version: &'static str,
    pub(super) effect: Effect,
    /// Seconds after the start of the scenario.
    pub(super) from_s: f64,
    /// Of every so many seconds only the first so many; zero for always.
    pub(super) every_s: f64,
    pub(super) for_s: f64,
    /// Only in this route, region, for this caller, in this arm of a flag; empty for any.
    pub(super) route: &'static str,
    pub(super) region: &'static str,
    pub(super) caller: &'static str,
    pub(super) arm: &'static str,
}

/// What goes on whatever is deployed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Weather {
    /// Requests swing by a share, latency by a tenth of it, over a period in seconds that rises steepest at the start.
    Swing(f64, f64),
    /// The weight of an entry changes by a factor at the start.
    Mix(&'static str, f64),
    /// Entries that nobody had before the start, at so many requests a second.
    Visits(&'static str, f64),
    /// All versions of a service fail this share of requests between two moments after the start.
    Outage { service: &'static str, share: f64, from_s: f64, to_s: f64 },
    /// All versions of a service are so many times slower between two moments after the start.
    Slowdown { service: &'static str, times: f64, from_s: f64, to_s: f64 },
    /// All versions of a service are always so many times slower for so many seconds of every so many.
    Spells { service: &'static str, times: f64, for_s: f64, every_s: f64 },
    /// All versions of a service fail this share of requests, always.
    Errors(&'static str, f64),
    /// Nothing ever fails by itself.
    Clean,
    /// The clock of a service is ahead by so many seconds.
    Skew(&'static str, f64),
    /// A service exports its spans only every so many seconds.
    LateExport(&'static str, f64),
    /// Of a hundred traces one is kept.
    Sampled,
    /// A service emits metrics alone.
    MetricsOnly(&'static str),
    /// A service tells no version.
    Versionless(&'static str),
    /// Every instance of a service tells another version.
    VersionPerPod(&'static str),
    /// A service is restarted at the start, as it is.
    Restart(&'static str),
}

/// One mesh, what happens to it, and what is right to say of it.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Requests a second at the gateway.
    pub(super) rate: f64,
    /// Entry that gets most of them; none where empty.
    pub(super) focus: &'static str,
    /// Minutes of history.
    pub(super) history_min: f64,
    pub(super) deploys: Vec<Deploy>,
    pub(super) faults: Vec<Fault>,
    pub(super) weather: Vec<Weather>,
    /// Whether instances tell when they started.
    pub(super) tells_start: bool,
    /// Whether traffic suffices, by the floors, for an effect of this size within the run.
    pub(super) suffices: bool,
    /// Taken into the short form.
    pub(super) short: bool,
}

impl Scenario {
    /// A quiet mesh with nothing deployed.
    pub(super) fn named(name: &'static str, focus: &'static str) -> Self {
        Self {
            name,
            rate: 8.0,
            focus,
            history_min: 25.0,
            deploys: Vec::new(),
            faults: Vec::new(),
            weather: Vec::new(),
            tells_start: true,
            suffices: true,
            short: false,
        }
    }

    /// Adds a marked release of version 2.0.0.
    pub(super) fn release(self, service: &'static str, strategy: Strategy, expected: Expected) -> Self {
        self.deploy(Deploy {
            service,
            version: "2.0.0",
            kind: "release",
            strategy,
            at_s: 0.0,
            marked_s: Some(0.0),
            expected,
        })
    }

    /// Adds a change that keeps the version.
    pub(super) fn change(self, service: &'static str, kind: &'static str, expected: Expected) -> Self {
        self.deploy(Deploy {
            service,
            version: FORMER,
            kind,
            strategy: Strategy::AtOnce,
            at_s: 0.0,
            marked_s: Some(0.0),
            expected,
        })
    }

    pub(super) fn deploy(mut self, deploy: Deploy) -> Self {
        self.deploys.push(deploy);
        self
    }

    /// Lets the last deploy be marked so long after its start, or not at all.
    pub(super) fn marked(mut self, marked_s: Option<f64>) -> Self {
        self.deploys.last_mut().expect("a deploy comes first").marked_s = marked_s;
        self
    }

    /// Lets the last deploy's version have an effect from its start on.
    pub(super) fn with(mut self, effect: Effect) -> Self {
        let deploy = self.deploys.last().expect("a deploy comes first");
        self.faults.push(Fault {
            service: deploy.service,
            version: deploy.version,
            effect,
            from_s: deploy.at_s,
            every_s: 0.0,
            for_s: 0.0,
            route: "",
            region: "",
            caller: "",
            arm: "",
        });
        self
    }

    /// Narrows the last effect.
    pub(super) fn only(mut self, narrow: impl FnOnce(&mut Fault)) -> Self {
        narrow(self.faults.last_mut().expect("an effect comes first"));
        self
    }

    pub(super) fn weather(mut self, weather: Weather) -> Self {
        self.weather.push(weather);
        self
    }

    pub(super) fn rate(self, rate: f64) -> Self {
        Self { rate, ..self }
    }

    pub(super) fn history(self, minutes: f64) -> Self {
        Self { history_min: minutes, ..self }
    }

    pub(super) fn ageless(self) -> Self {
        Self { tells_start: false, ..self }
    }

    pub(super) fn too_little(self) -> Self {
        Self { suffices: false, ..self }
    }

    pub(super) fn short(self) -> Self {
        Self { short: true, ..self }
    }

    /// Whether any deploy of it is bad.
    #[cfg(test)]
    pub(super) fn is_bad(&self) -> bool {
        self.deploys.iter().any(|deploy| matches!(deploy.expected, Expected::Regressed { .. }))
    }
}

/// The version that everything runs before.
pub(super) const FORMER: &str = "1.0.0";

/// Blames an operation of a service; any of them where empty.
pub(super) const fn blames(culprit: &'static str, operation: &'static str) -> Expected {
    Expected::Regressed { culprit, operation }
}
