//! One request on its way through the mesh, and the spans and messages that it leaves.

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use rand::Rng;

use super::instances::REGIONS;
use super::scenario::{Effect, Fault, Weather};
use super::topology::{self, OPERATIONS};
use super::wire::{body, number, text};
use super::world::{SAMPLED, SECOND, World, region};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;
const FAILED: i32 = 2;
const INFO: i32 = 9;
const ERROR: i32 = 17;
const MS: f64 = 1e6;
/// Spread of the time that a service spends itself, as the deviation of its logarithm.
const SIGMA: f64 = 0.5;
/// Share of requests that fail by themselves.
const ERRORS: f64 = 0.004;
/// `ot=th:` of one in a hundred: 2^56 times 0.99.
const TRACE_STATE: &str = "ot=th:fd70a3d70a3d71";

/// What all parts of a request share.
struct Trace {
    id: [u8; 16],
    region: usize,
    on: bool,
    sampled: bool,
}

/// How a part of it went.
struct Served {
    end: u64,
    failed: bool,
}

/// Who asks whom for what, when.
struct Call {
    operation: usize,
    version: &'static str,
    caller: &'static str,
    parent: [u8; 8],
    at: u64,
    /// The exception that what is asked leads to.
    spoiled: Option<&'static str>,
}

/// What faults make of one request.
#[derive(Default)]
struct Fate {
    fails: Option<&'static str>,
    slower: f64,
    add_ms: f64,
    hangs_ms: f64,
    swallows: Option<&'static str>,
    complains: Option<&'static str>,
    reworded: bool,
    chatter: usize,
    renamed_exception: bool,
    loses_order: bool,
}

impl World {
    /// Lets a request come in.
    pub(super) fn request(&mut self, entry: usize, at: u64) {
        let region = region(&mut self.rng);
        let on = self.rng.random_bool(0.5);
        let sampled = self.scenario.weather.iter().any(|weather| matches!(weather, Weather::Sampled));
        let trace = Trace { id: self.rng.random(), region, on, sampled };
        let version = self.version("gateway", at);
        let call = Call { operation: entry, version, caller: "", parent: [0; 8], at, spoiled: None };
        self.serve(&trace, &call);
    }

    fn applies(fault: &Fault, trace: &Trace, route: &str, caller: &str) -> bool {
        (fault.route.is_empty() || fault.route == route)
            && (fault.region.is_empty() || fault.region == REGIONS[trace.region])
            && (fault.caller.is_empty() || fault.caller == caller)
            && (fault.arm.is_empty() || (fault.arm == "on") == trace.on)
    }

    /// Draws what becomes of a request.
    fn fate(&mut self, trace: &Trace, call: &Call, age_s: f64) -> Fate {
        let op = &OPERATIONS[call.operation];
        let mut fate = Fate { slower: 1.0, ..Fate::default() };
        let faults: Vec<Fault> = self
            .faults(op.service, call.version, call.at)
            .filter(|fault| Self::applies(fault, trace, op.route, call.caller))
            .copied()
            .collect();
        let mut bad = false;
        for fault in faults {
            let draw = self.rng.random::<f64>();
            let harm = match fault.effect {
                Effect::Fail(share, exception) if draw < share => {
                    fate.fails = Some(exception);
                    true
                }
                Effect::Slow { share, times, add_ms } if draw < share => {
                    fate.slower *= times;
                    fate.add_ms += add_ms;
                    true
                }
                Effect::Hang(share, ms) if draw < share => {
                    fate.hangs_ms = ms;
                    fate.fails = Some("java.util.concurrent.TimeoutException");
                    true
                }
                Effect::Swallow(share, exception) if draw < share => {
                    fate.swallows = Some(exception);
                    true
                }
                Effect::Complain(share, words) if draw < share => {
                    fate.complains = Some(words);
                    true
                }
                Effect::LoseOrders(share) if draw < share => {
                    fate.loses_order = true;
                    true
                }
                Effect::ColdStart(times, tau_s) => {
                    fate.slower *= 1.0 + (times - 1.0) * (-age_s / tau_s).exp();
                    true
                }
                Effect::Leak(_) => true,
                Effect::Reword => {
                    fate.reworded = true;
                    false
                }
                Effect::Chatter(times) => {
                    fate.chatter = times;
                    false
                }
                Effect::RenameException => {
                    fate.renamed_exception = true;
                    false
                }
                _ => false,
            };
            bad |= harm;
        }
        let since = self.since_start(call.at);
        let clean = self.scenario.weather.iter().any(|weather| matches!(weather, Weather::Clean));
        let mut errors = if clean { 0.0 } else { ERRORS };
        for weather in &self.scenario.weather {
            match weather {
                Weather::Errors(service, share) if *service == op.service => errors += share,
                Weather::Outage { service, share, from_s, to_s }
                    if *service == op.service && since >= *from_s && since < *to_s =>
                {
                    errors += share;
                }
                Weather::Slowdown { service, times, from_s, to_s }
                    if *service == op.service && since >= *from_s && since < *to_s =>
                {
                    fate.slower *= times;
                }
                Weather::Spells { service, times, for_s, every_s }
                    if *service == op.service && since.rem_euclid(*every_s) < *for_s =>
                {
                    fate.slower *= times;
                }
                _ => {}
            }
        }
        if call.spoiled.is_some() {
            fate.fails = call.spoiled;
            bad = true;
        }
        if fate.fails.is_none() && self.rng.random::<f64>() < errors {
            fate.fails = Some(if fate.renamed_exception { "shop.Unavailable" } else { "shop.TemporarilyUnavailable" });
        }
        if bad {
            self.touched(call.at);
        }
        fate
    }

    fn touched(&mut self, at: u64) {
        self.first_bad = Some(self.first_bad.map_or(at, |first| first.min(at)));
    }

    fn serve(&mut self, trace: &Trace, call: &Call) -> Served {
        let op = &OPERATIONS[call.operation];
        let service = topology::service(op.service);
        let who = self.instance(service, call.version, trace.region, call.at);
        let age_s = call.at.saturating_sub(self.instances.all[who].started) as f64 / SECOND as f64;
        let fate = self.fate(trace, call, age_s);
        let drawn = op.median_ms * (SIGMA * self.normal()).exp() * self.tide(call.at).1;
        let own = (drawn * fate.slower + fate.add_ms) * MS;
        let id: [u8; 8] = self.rng.random();

        let mut at = call.at + (0.3 * own) as u64;
        let mut asked_in_vain = false;
        if fate.hangs_ms > 0.0 {
            at += (fate.hangs_ms * MS) as u64;
        } else if fate.fails.is_none() || self.rng.random_bool(0.5) {
            // The others fail before they ask anybody.
            for (callee, route) in op.calls {
                let target = topology::operation(callee, route);
                for _ in 0..self.times(op.service, call.version, callee, call.at) {
                    let answer = self.call(trace, call, who, id, target, at);
                    at = answer.end;
                    asked_in_vain |= answer.failed;
                }
                if asked_in_vain {
                    break;
                }
            }
            if op.database && !asked_in_vain {
                at = self.ask_database(trace, call, who, id, at, 0.3 * own);
            }
        }
        let end = at + (if op.database { 0.4 } else { 0.7 } * own) as u64;
        let own_failure = fate.fails.filter(|_| !asked_in_vain);
        let failed = asked_in_vain || own_failure.is_some();
        self.leave(trace, call, who, id, end, failed, own_failure, &fate);
        Served { end, failed }
    }

    /// How often a version calls a callee.
    fn times(&mut self, service: &str, version: &str, callee: &str, at: u64) -> usize {
        let found = self.faults(service, version, at).find_map(|fault| match fault.effect {
            Effect::Repeat(of, times) if of == callee => Some(times),
            _ => None,
        });
        if found.is_some() {
            self.touched(at);
        }
        found.unwrap_or(1)
    }

    /// Calls another service, or hands it a message.
    fn call(&mut self, trace: &Trace, from: &Call, who: usize, parent: [u8; 8], target: usize, at: u64) -> Served {
        let (caller, callee) = (&OPERATIONS[from.operation], &OPERATIONS[target]);
        let forced = self.faults(caller.service, from.version, at).find_map(|fault| match fault.effect {
            Effect::CallsVersion(of, version) if of == callee.service => Some(version),
            _ => None,
        });
        let version = forced.unwrap_or_else(|| self.version(callee.service, at));
        let since = self.since_start(at);
        let (mut unreached, mut refused) = (0.0, false);
        for fault in self.faults(callee.service, version, at) {
            match fault.effect {
                Effect::Unreached(share) => unreached = share,
                Effect::Dead => refused = true,
                Effect::CrashLoop { up_s, down_s } => refused = since.rem_euclid(up_s + down_s) >= up_s,
                _ => {}
            }
        }
        if refused {
            self.touched(at);
        }
        if self.rng.random::<f64>() < unreached {
            self.touched(at);
            return Served { end: at, failed: false };
        }
        let misuse = self.faults(caller.service, from.version, at).find_map(|fault| match fault.effect {
            Effect::Misuses(of, share, exception) if of == callee.service => Some((share, exception)),
            _ => None,
        });
        let spoiled = misuse.filter(|(share, _)| self.rng.random::<f64>() < *share).map(|(_, exception)| exception);
        let id: [u8; 8] = self.rng.random();
        let there = at + (0.5 * MS) as u64;
        let call = Call { operation: target, version, caller: caller.service, parent: id, at: there, spoiled };
        let served = if refused {
            Served { end: at + (2.0 * MS) as u64, failed: true }
        } else if callee.consumes() {
            // Nobody waits for a message.
            let taken = Call { at: there + (50.0 * MS) as u64, ..call };
            self.serve(trace, &taken);
            Served { end: there, failed: false }
        } else {
            let served = self.serve(trace, &call);
            Served { end: served.end + (0.5 * MS) as u64, ..served }
        };
        let (kind, name) = if callee.consumes() {
            (PRODUCER, format!("{} send", callee.route))
        } else {
            (CLIENT, callee.method.to_owned())
        };
        let mut span = self.span(trace, from, id, parent, kind, name, at, served.end);
        span.attributes.push(text("server.address", callee.service));
        if callee.consumes() {
            span.attributes.push(text("messaging.destination.name", callee.route));
        }
        if served.failed {
            span.status = Some(Status { code: FAILED, message: String::new() });
            if refused {
                span.events.push(exception(served.end, "java.net.ConnectException", "connection refused"));
            }
        }
        self.instances.all[who].outbox.spans.push(span);
        self.spans += 1;
        served
    }

    fn ask_database(&mut self, trace: &Trace, from: &Call, who: usize, parent: [u8; 8], at: u64, ns: f64) -> u64 {
        let (id, end) = (self.rng.random(), at + ns as u64);
        let mut span = self.span(trace, from, id, parent, CLIENT, "SELECT".into(), at, end);
        span.attributes.push(text("db.system.name", "postgresql"));
        self.instances.all[who].outbox.spans.push(span);
        self.spans += 1;
        end
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a span")]
    fn span(
        &self,
        trace: &Trace,
        of: &Call,
        id: [u8; 8],
        parent: [u8; 8],
        kind: i32,
        name: String,
        start: u64,
        end: u64,
    ) -> Span {
        let service = OPERATIONS[of.operation].service;
        Span {
            trace_id: trace.id.to_vec(),
            span_id: id.to_vec(),
            parent_span_id: if parent == [0; 8] { Vec::new() } else { parent.to_vec() },
            trace_state: if trace.sampled { TRACE_STATE.into() } else { String::new() },
            name,
            kind,
            start_time_unix_nano: self.shown(service, start),
            end_time_unix_nano: self.shown(service, end),
            status: Some(Status::default()),
            ..Default::default()
        }
    }

    /// What a service's clock shows at a time.
    fn shown(&self, service: &str, at: u64) -> u64 {
        let ahead = self.scenario.weather.iter().find_map(|weather| match weather {
            Weather::Skew(of, seconds) if *of == service => Some(*seconds),
            _ => None,
        });
        at.saturating_add_signed((ahead.unwrap_or(0.0) * SECOND as f64) as i64)
    }

    #[expect(clippy::too_many_arguments, reason = "how the request went")]
    fn leave(
        &mut self,
        trace: &Trace,
        call: &Call,
        who: usize,
        id: [u8; 8],
        end: u64,
        failed: bool,
        own: Option<&'static str>,
        fate: &Fate,
    ) {
        let op = &OPERATIONS[call.operation];
        let renamed = self.faults(op.service, call.version, call.at).find_map(|fault| match fault.effect {
            Effect::Rename(was, now) if was == op.route => Some(now),
            _ => None,
        });
        let route = renamed.unwrap_or(op.route);
        let kind = if op.consumes() { CONSUMER } else { SERVER };
        let mut span = self.span(trace, call, id, call.parent, kind, op.name(route), call.at, end);
        if op.consumes() {
            span.attributes.push(text("messaging.destination.name", route));
        } else {
            span.attributes.push(text("http.request.method", op.method));
            span.attributes.push(text("http.route", route));
            span.attributes.push(number("http.response.status_code", if failed { 500 } else { 200 }));
        }
        if self.scenario.deploys.iter().any(|deploy| deploy.kind == "flag" && deploy.service == op.service) {
            span.attributes.push(text("feature_flag.key", "new-flow"));
            span.attributes.push(text("feature_flag.result.variant", if trace.on { "on" } else { "off" }));
        }
        let shown = self.shown(op.service, end);
        let mut logs = Vec::new();
        if failed {
            span.status = Some(Status { code: FAILED, message: String::new() });
        }
        if let Some(class) = own {
            span.events.push(exception(shown, class, "the request cannot be answered"));
            logs.push((ERROR, format!("request {:08x} failed: {class}", self.rng.random::<u32>()), None));
        }
        if let Some(class) = fate.swallows {
            logs.push((ERROR, "update skipped, carrying on".to_owned(), Some(class)));
        }
        if let Some(words) = fate.complains {
            logs.push((ERROR, format!("{words} {}", self.rng.random_range(1..10_000)), None));
        }
        let said = if fate.chatter > 0 { fate.chatter } else { usize::from(self.rng.random_bool(0.2)) };
        for _ in 0..said {
            let ms = end.saturating_sub(call.at) as f64 / MS;
            let user = self.rng.random_range(1..100_000);
            let words = if fate.reworded {
                format!("finished {} for customer {user} after {ms:.0} milliseconds", op.route)
            } else {
                format!("{} served in {ms:.1} ms for user {user}", op.route)
            };
            logs.push((INFO, words, None));
        }
        let seconds = end.saturating_sub(call.at) as f64 / SECOND as f64;
        let instance = &mut self.instances.all[who];
        let weight = if trace.sampled { SAMPLED } else { 1 };
        instance.served = call.at;
        instance.count(route, op.method, failed, seconds, weight);
        if op.service == "checkout" && !failed && !fate.loses_order {
            instance.place_order(weight);
        }
        for (severity, words, class) in logs {
            let mut record = LogRecord {
                time_unix_nano: shown,
                observed_time_unix_nano: shown,
                severity_number: severity,
                severity_text: if severity == ERROR { "ERROR".into() } else { "INFO".into() },
                body: body(words),
                trace_id: trace.id.to_vec(),
                span_id: id.to_vec(),
                ..Default::default()
            };
            if let Some(class) = class {
                record.attributes.push(text("exception.type", class));
                record.attributes.push(text("exception.message", "row was changed by another"));
                record.attributes.push(text("exception.stacktrace", stack(class)));
            }
            instance.outbox.logs.push(record);
        }
        instance.outbox.spans.push(span);
        self.spans += 1;
    }
}

fn exception(at: u64, class: &str, message: &str) -> Event {
    Event {
        time_unix_nano: at,
        name: "exception".into(),
        attributes: vec![
            text("exception.type", class),
            text("exception.message", message),
            text("exception.stacktrace", stack(class)),
        ],
        ..Default::default()
    }
}

fn stack(class: &str) -> String {
    let package = class.rsplit_once('.').map_or("shop", |(package, _)| package);
    format!(
        "{class}: it cannot be done\n\tat {package}.Handler.serve(Handler.java:42)\n\tat {package}.Main.run(Main.java:7)"
    )
}
