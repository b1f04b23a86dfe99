//! One mesh as it runs: requests come in, versions take over, faults strike, instances export.
//!
//! Everything is drawn from one seed and placed on one line of time that begins `history_min` before the scenario: the same
//! seed gives the same requests, whatever the clock says.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::instances::{Identity, Instances, Manners, REGIONS};
use super::scenario::{Effect, FORMER, Fault, Scenario, Weather};
use super::topology::{self, ENTRIES, SERVICES};
use super::wire;
use crate::records::Signal;

pub(super) const SECOND: u64 = 1_000_000_000;
/// Seconds between two points of a metric.
const REPORT_S: u64 = 20;
/// An instance without requests for so long is gone, and reports nothing.
const GONE: u64 = 90 * SECOND;
/// What everything else is ordinarily older than, in seconds.
const ESTABLISHED_S: u64 = 8 * 3_600;
/// Requests that one of a sample stands for.
pub(super) const SAMPLED: u64 = 100;

/// A mesh.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) environment: String,
    /// The start of the scenario, in nanoseconds since 1970.
    pub(super) start: u64,
    /// Up to when everything has happened.
    pub(super) now: u64,
    pub(super) rng: ChaCha8Rng,
    pub(super) instances: Instances,
    pub(super) manners: Manners,
    entries: Vec<(usize, f64)>,
    reported: u64,
    /// When a fault first touched a request.
    pub(super) first_bad: Option<u64>,
    /// Spans made.
    pub(super) spans: u64,
}

impl World {
    /// Makes a mesh whose scenario is to start at `start`.
    pub(super) fn new(scenario: Scenario, environment: String, start: u64, seed: u64) -> Self {
        let of = |wanted: fn(&Weather) -> Option<&'static str>| {
            scenario.weather.iter().find_map(wanted).map(topology::service)
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let manners = Manners {
            tells_start: scenario.tells_start,
            versionless: of(|w| if let Weather::Versionless(s) = w { Some(s) } else { None }),
            version_per_pod: of(|w| if let Weather::VersionPerPod(s) = w { Some(s) } else { None }),
            delta: rng.random_bool(0.5),
        };
        let entries = ENTRIES
            .iter()
            .map(|(route, weight)| {
                let focused = if *route == scenario.focus { 1.0 } else { 0.0 };
                let weight = if scenario.focus.is_empty() { *weight } else { 0.4 * weight + 0.6 * focused };
                (topology::operation("gateway", route), weight)
            })
            .collect();
        let now = start - (scenario.history_min * 60.0) as u64 * SECOND;
        let instances = Instances::default();
        Self {
            scenario,
            environment,
            start,
            now,
            rng,
            instances,
            manners,
            entries,
            reported: now,
            first_bad: None,
            spans: 0,
        }
    }

    /// Seconds since the start of the scenario; negative before.
    pub(super) fn since_start(&self, at: u64) -> f64 {
        (at as f64 - self.start as f64) / SECOND as f64
    }

    /// Lets everything up to `until` happen and returns what was exported meanwhile.
    pub(super) fn run(&mut self, until: u64) -> Vec<(Signal, Vec<u8>)> {
        while self.now < until {
            let to = until.min((self.now / SECOND + 1) * SECOND);
            self.requests(self.now, to);
            self.now = to;
            if to >= self.reported + REPORT_S * SECOND {
                self.report(to);
            }
        }
        let late = self.scenario.weather.iter().find_map(|weather| match weather {
            Weather::LateExport(service, every_s) => Some((topology::service(service), *every_s as u64 * SECOND)),
            _ => None,
        });
        let mute = self.scenario.weather.iter().find_map(|weather| match weather {
            Weather::MetricsOnly(service) => Some(topology::service(service)),
            _ => None,
        });
        for instance in &mut self.instances.all {
            if Some(instance.identity.service) == mute {
                instance.outbox.spans.clear();
                instance.outbox.logs.clear();
            }
        }
        let held = late.filter(|(_, every)| until % every >= SECOND).map(|(service, _)| service);
        let ready = self.instances.all.iter_mut().filter(|instance| Some(instance.identity.service) != held);
        wire::drain(ready.map(|instance| &mut instance.outbox))
    }

    fn requests(&mut self, from: u64, to: u64) {
        let span = (to - from) as f64 / SECOND as f64;
        let rate = self.scenario.rate * self.tide(from).0;
        let started = from >= self.start;
        let mut arrivals: Vec<(u64, usize)> = Vec::new();
        let weights: Vec<(usize, f64)> = self.entries.iter().map(|(op, w)| (*op, w * self.mix(*op, started))).collect();
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        for _ in 0..self.poisson(rate * span) {
            let mut at = self.rng.random_range(0.0..total);
            let chosen = weights.iter().find(|(_, weight)| {
                at -= weight;
                at < 0.0
            });
            let entry = chosen.map_or(weights[0].0, |(op, _)| *op);
            arrivals.push((self.rng.random_range(from..to), entry));
        }
        for weather in self.scenario.weather.clone() {
            if let Weather::Visits(route, rate) = weather
                && started
            {
                for _ in 0..self.poisson(rate * span) {
                    arrivals.push((self.rng.random_range(from..to), topology::operation("gateway", route)));
                }
            }
        }
        arrivals.sort_unstable();
        for (at, entry) in arrivals {
            self.request(entry, at);
        }
    }

    fn mix(&self, entry: usize, started: bool) -> f64 {
        let route = topology::OPERATIONS[entry].route;
        let shifted = self.scenario.weather.iter().find_map(|weather| match weather {
            Weather::Mix(of, factor) if *of == route && started => Some(*factor),
            _ => None,
        });
        shifted.unwrap_or(1.0)
    }

    /// Factors of requests and of latency that the time of day brings.
    pub(super) fn tide(&self, at: u64) -> (f64, f64) {
        let swing = self.scenario.weather.iter().find_map(|weather| match weather {
            Weather::Swing(amplitude, period_s) => {
                Some(amplitude * (std::f64::consts::TAU * self.since_start(at) / period_s).sin())
            }
            _ => None,
        });
        let swing = swing.unwrap_or(0.0);
        (1.0 + swing, 1.0 + 0.1 * swing)
    }

    fn poisson(&mut self, mean: f64) -> usize {
        let (limit, mut product, mut n) = ((-mean).exp(), self.rng.random::<f64>(), 0);
        while product > limit {
            product *= self.rng.random::<f64>();
            n += 1;
        }
        n
    }

    /// A draw from the standard normal distribution.
    pub(super) fn normal(&mut self) -> f64 {
        let (u, v) = (self.rng.random::<f64>().max(1e-12), self.rng.random::<f64>());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Chooses which version of a service takes a request.
    pub(super) fn version(&mut self, service: &str, at: u64) -> &'static str {
        let since = self.since_start(at);
        let mut version = FORMER;
        let draw = self.rng.random::<f64>();
        for deploy in self.scenario.deploys.iter().filter(|deploy| deploy.service == service) {
            if draw < deploy.strategy.share(since - deploy.at_s) {
                version = deploy.version;
            }
        }
        version
    }

    /// Finds the instance of a version in a region at a time.
    pub(super) fn instance(&mut self, service: usize, version: &'static str, region: usize, at: u64) -> usize {
        let name = SERVICES[service];
        let deploy = self.scenario.deploys.iter().find(|d| d.service == name && d.version == version);
        let since = self.since_start(at);
        let mut generation = 0;
        let mut started = self.start.saturating_sub((ESTABLISHED_S + 600 * region as u64) * SECOND);
        if let Some(deploy) = deploy.filter(|deploy| deploy.version != FORMER) {
            started = self.start + (deploy.at_s * SECOND as f64) as u64;
        }
        if let Some(rollback) = deploy.filter(|deploy| deploy.version == FORMER && deploy.kind == "rollback")
            && since >= rollback.at_s
        {
            generation = 1;
            started = self.start + (rollback.at_s * SECOND as f64) as u64;
        }
        let restarted = self.scenario.weather.iter().any(|w| matches!(w, Weather::Restart(s) if *s == name));
        if restarted && since >= 0.0 {
            generation = 1;
            started = self.start;
        }
        if let Some((cycle, began)) = self.cycle(name, version, at) {
            generation = cycle;
            started = began;
        }
        let identity = Identity { service, version, region, generation };
        self.instances.of(identity, started, &self.environment, &self.manners)
    }

    /// Which life of a crash loop it is, and when it began; `None` where there is no such loop.
    fn cycle(&self, service: &str, version: &str, at: u64) -> Option<(u32, u64)> {
        let since = self.since_start(at);
        self.scenario.faults.iter().find_map(|fault| match fault.effect {
            Effect::CrashLoop { up_s, down_s }
                if fault.service == service && fault.version == version && since >= 0.0 =>
            {
                let cycle = (since / (up_s + down_s)).floor();
                Some((cycle as u32, self.start + (cycle * (up_s + down_s) * SECOND as f64) as u64))
            }
            _ => None,
        })
    }

    /// The faults that a version of a service has at a time.
    pub(super) fn faults<'a>(
        &'a self,
        service: &'a str,
        version: &'a str,
        at: u64,
    ) -> impl Iterator<Item = &'a Fault> + 'a {
        let since = self.since_start(at);
        self.scenario.faults.iter().filter(move |fault| {
            let active = fault.every_s <= 0.0 || since.rem_euclid(fault.every_s) < fault.for_s;
            fault.service == service && fault.version == version && since >= fault.from_s && active
        })
    }

    fn report(&mut self, at: u64) {
        let since = self.reported;
        self.reported = at;
        let delta = self.manners.delta;
        for index in 0..self.instances.all.len() {
            let (identity, started, served) = {
                let instance = &self.instances.all[index];
                (instance.identity, instance.started, instance.served)
            };
            if served + GONE < at {
                continue;
            }
            let noise = 1.0 + 0.02 * self.normal();
            let minutes = (at.saturating_sub(started)) as f64 / (60.0 * SECOND as f64);
            let mut memory = 240.0 * noise;
            for fault in self.faults(SERVICES[identity.service], identity.version, at) {
                match fault.effect {
                    Effect::Leak(mib) => memory += mib * minutes,
                    Effect::Memory(times) => memory *= times,
                    _ => {}
                }
            }
            let instance = &mut self.instances.all[index];
            instance.memory_mib = memory;
            instance.report(at, since, delta);
        }
    }
}

/// Chooses a region.
pub(super) fn region(rng: &mut ChaCha8Rng) -> usize {
    rng.random_range(0..REGIONS.len())
}
