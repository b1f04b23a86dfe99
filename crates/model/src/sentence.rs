//! A finding as one sentence that an engineer believes.
//!
//! Every face says the same words: the sentence follows from the finding alone, so that what is stored, sent and shown
//! cannot differ.

use crate::verdict::{Common, Culprit, Explanation, Finding, SignalKind};

/// A change of mix is told from so much of a share on: 0.05 points.
const MIX_MIN: f64 = 0.0005;

/// Says what a finding found, as one sentence without a full stop.
pub fn of(finding: &Finding) -> String {
    let Finding { service, operation, baseline, candidate, interval, explanation, .. } = finding;
    let Explanation { version, against, subject, flag, .. } = explanation;
    let calls = grouped(candidate.n);
    let who = match (version.is_empty(), flag.is_empty()) {
        (true, _) => service.clone(),
        (_, true) => format!("{service} {version}"),
        _ => format!("{service} with `{flag}` {version}"),
    };
    let range = range(*interval);
    let because = because(explanation);
    let mut text = match finding.signal {
        SignalKind::ErrorRate if baseline.n == 0 => format!(
            "{who} `{operation}` fails {} of {calls} calls, nothing was there to compare it with and {} are tolerated{because}",
            percent(candidate.value),
            percent(baseline.value)
        ),
        SignalKind::ErrorRate => format!(
            "{who} `{operation}` fails {} of calls{}{subject} against {} {against} ({range}, {calls} calls){because}",
            percent(candidate.value),
            if subject.is_empty() { "" } else { " " },
            percent(baseline.value)
        ),
        SignalKind::Latency => format!(
            "{who} `{operation}` takes {} ms at p95 against {} ms {against} ({range}, {calls} calls){because}",
            number(candidate.value),
            number(baseline.value)
        ),
        SignalKind::Throughput if finding.unit == "calls/request" => format!(
            "{who} `{operation}` calls {subject} {} times a request against {} {against} ({calls} requests)",
            number(candidate.value),
            number(baseline.value)
        ),
        SignalKind::Throughput if finding.unit == "actions/request" => format!(
            "{who} counts {subject} {} times a request against {} {against} ({calls} requests)",
            number(candidate.value),
            number(baseline.value)
        ),
        // Of all versions together, whatever else the deploy is held against.
        SignalKind::Throughput => format!(
            "{service} gets {} requests a second against {} before the deploy",
            number(candidate.value),
            number(baseline.value)
        ),
        SignalKind::NewLog if finding.unit == "ratio" => {
            format!("{who} logs the error {subject}, never seen before ({} of {calls} calls)", percent(candidate.value))
        }
        SignalKind::NewLog if !subject.is_empty() => format!(
            "{who} logs {subject} {} times a request against {} {against} ({calls} calls)",
            number(candidate.value),
            number(baseline.value)
        ),
        SignalKind::NewLog => format!(
            "{who} logs {} errors a {} against {} {against} ({range}{})",
            number(candidate.value),
            if finding.unit == "messages/min" { "minute" } else { "request" },
            number(baseline.value),
            if finding.unit == "messages/min" { String::new() } else { format!(", {calls} calls") }
        ),
        SignalKind::Metric if finding.unit == "ratio" => format!(
            "{who} has {subject} at {} against {} {against} ({range}, {calls} calls){because}",
            percent(candidate.value),
            percent(baseline.value)
        ),
        SignalKind::Metric => {
            let level = Level::of(subject);
            format!(
                "{who} has {} at {} against {} {against} ({range}){because}",
                level.about,
                level.written(candidate.value),
                level.written(baseline.value)
            )
        }
        SignalKind::Silence if finding.unit == "restarts/h" => format!(
            "{who} starts again and again: {} restarts an hour of each instance against {} ({} starts)",
            number(candidate.value),
            if baseline.value > 0.0 { number(baseline.value) } else { "none".to_owned() },
            grouped(candidate.n)
        ),
        SignalKind::Silence if subject.is_empty() => {
            format!("{who} has not served a single request since it was deployed")
        }
        SignalKind::Silence => format!("{who} has served nothing since {subject}"),
        SignalKind::NewException => format!(
            "{who}{} throws {subject}, never seen before ({} of {calls} calls)",
            if operation.is_empty() { String::new() } else { format!(" `{operation}`") },
            percent(candidate.value)
        ),
    };
    if let Some(split) = &explanation.split
        && split.mix.abs() >= (0.1 * (split.within.abs() + split.mix.abs())).max(MIX_MIN)
    {
        text.push_str(&format!(
            "; of the difference {} are its own and {} a change of mix, which does not count",
            points(split.within),
            points(split.mix)
        ));
    }
    if finding.symptom {
        text.push_str(&format!("; the cause lies in {}", party(&finding.culprit)));
    }
    text
}

/// Says what most of the excess has in common.
fn because(explanation: &Explanation) -> String {
    let share = |common: &Common| part(common.share);
    match (&explanation.cause, &explanation.place) {
        (Some(cause), None) => format!(", {} {}", share(cause), cause.name),
        (Some(cause), Some(place)) => format!(", {} {} when {}", share(cause), cause.name, place.conditions()),
        (None, Some(place)) => format!(", {} when {}", share(place), place.conditions()),
        (None, None) => String::new(),
    }
}

/// Names a party: service, version and operation as far as they are known.
pub fn party(culprit: &Culprit) -> String {
    let mut text = culprit.service.clone();
    if !culprit.version.is_empty() {
        text.push_str(&format!(" {}", culprit.version));
    }
    if !culprit.operation.is_empty() {
        text.push_str(&format!(" `{}`", culprit.operation));
    }
    text
}

/// What a metric measures, taken apart: most units read better beside the number than in the name.
struct Level<'a> {
    about: String,
    unit: &'a str,
}

impl<'a> Level<'a> {
    /// Takes apart what a finding is about, for instance `` `process.memory.usage` in By a point ``.
    fn of(subject: &'a str) -> Self {
        let plain = Level { about: subject.to_owned(), unit: "" };
        let Some((name, rest)) = subject.rsplit_once(" in ") else { return plain };
        let (unit, each) =
            rest.split_once(' ').map_or((rest, String::new()), |(unit, each)| (unit, format!(" {each}")));
        match unit {
            "By" | "s" => Level { about: format!("{name}{each}"), unit },
            // What is counted is in the name as well.
            _ if unit.starts_with('{') && unit.ends_with('}') => Level { about: format!("{name}{each}"), unit: "" },
            _ => plain,
        }
    }

    fn written(&self, value: f64) -> String {
        match self.unit {
            "By" => bytes(value),
            "s" if value.abs() < 1.0 => format!("{} ms", number(value * 1e3)),
            "s" => format!("{} s", number(value)),
            _ => number(value),
        }
    }
}

fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = value;
    let mut at = 0;
    while value.abs() >= 1_024.0 && at + 1 < UNITS.len() {
        value /= 1_024.0;
        at += 1;
    }
    format!("{} {}", number(value), UNITS[at])
}

/// Writes a share as a percentage, with as many digits as tell something.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value == 0.0 || value >= 0.1 { format!("{value:.1} %") } else { format!("{value:.3} %") }
}

/// Writes a part of what is more.
fn part(share: f64) -> String {
    if share >= 0.995 { "all of it".to_owned() } else { format!("{:.0} % of it", share * 100.0) }
}

/// Writes a difference of shares in percentage points.
fn points(difference: f64) -> String {
    format!("{:+.2} points", difference * 100.0)
}

/// Writes between what and what the true ratio lies.
fn range([low, high]: [f64; 2]) -> String {
    let (from, to) = (times(low), times(high));
    match (low < 1e-3, high >= 9_000.0) {
        (true, true) => "by how much is not known".to_owned(),
        (_, true) => format!("at least {from}"),
        _ if from == to => from,
        _ => format!("{from}-{to}"),
    }
}

fn times(ratio: f64) -> String {
    match ratio {
        2.0..10.0 => format!("{ratio:.1}x"),
        _ => format!("{}x", number(ratio)),
    }
}

/// Writes a number with two or three digits that tell something.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size @ 1_000.0..1e15 => {
            // In range: exact.
            format!("{}{}", if value < 0.0 { "-" } else { "" }, grouped(size.round() as u64))
        }
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        0.01.. => format!("{value:.3}"),
        0.001.. => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

/// Writes how long something takes, roughly.
pub fn lasting(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds.div_ceil(60)),
        7_200..172_800 => format!("{} h", seconds.div_ceil(3_600)),
        _ => format!("{} days", seconds.div_ceil(86_400)),
    }
}

/// Writes a count in groups of three.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeployId, FindingId};
    use crate::verdict::{Sample, Split};

    fn finding(signal: SignalKind, unit: &str) -> Finding {
        let deploy = DeployId::from_text("dep_a");
        Finding {
            id: FindingId::derive(&deploy, signal.as_str(), "payment", "POST /charge", ""),
            signal,
            service: "payment".to_owned(),
            operation: "POST /charge".to_owned(),
            culprit: Culprit { service: "payment".to_owned(), version: "2.0.0".to_owned(), operation: String::new() },
            baseline: Sample { value: 0.009, n: 12_000 },
            candidate: Sample { value: 0.051, n: 3_412 },
            unit: unit.to_owned(),
            effect: 5.7,
            interval: [4.1, 7.8],
            e_value: 412.0,
            p_value: 0.0024,
            exemplars: Vec::new(),
            sql: String::new(),
            summary: String::new(),
            symptom: false,
            explanation: Explanation {
                version: "2.0.0".to_owned(),
                against: "on 1.9.3".to_owned(),
                ..Explanation::default()
            },
        }
    }

    #[test]
    fn a_finding_of_errors_reads_as_a_sentence() {
        let mut found = finding(SignalKind::ErrorRate, "ratio");
        found.explanation.cause =
            Some(Common { name: "`CardDeclined: issuer timeout`".to_owned(), share: 0.92, ..Common::default() });
        found.explanation.place = Some(Common { name: "region=eu".to_owned(), share: 0.9, ..Common::default() });
        assert_eq!(
            of(&found),
            "payment 2.0.0 `POST /charge` fails 5.1 % of calls against 0.9 % on 1.9.3 (4.1x-7.8x, 3,412 calls), \
             92 % of it `CardDeclined: issuer timeout` when `region=eu`"
        );
        found.explanation.cause = None;
        found.explanation.split = Some(Split { within: 0.03, mix: 0.012 });
        assert!(
            of(&found).ends_with(
                "90 % of it when `region=eu`; of the difference +3.00 points are its own and +1.20 points a change of mix, \
                 which does not count"
            ),
            "{}",
            of(&found)
        );
        found.explanation.split = None;
        found.explanation.place = Some(Common {
            and: Some("region=eu".to_owned()),
            name: "device=ios".to_owned(),
            share: 0.92,
            ..Common::default()
        });
        assert!(of(&found).ends_with("92 % of it when `device=ios` and `region=eu`"), "{}", of(&found));
    }

    #[test]
    fn each_kind_of_finding_has_words_of_its_own() {
        use SignalKind::{Latency, Metric, NewException, NewLog, Silence, Throughput};
        let said = |signal, unit: &str, subject: &str| {
            let mut found = finding(signal, unit);
            found.explanation.subject = subject.to_owned();
            of(&found)
        };
        assert!(said(Latency, "ms", "").contains("ms at p95 against"));
        assert!(said(Throughput, "calls/request", "bank `POST /hold`").contains("calls bank `POST /hold`"));
        assert!(said(Throughput, "actions/request", "`order.placed`").contains("counts `order.placed`"));
        assert!(said(Throughput, "requests/s", "").contains("requests a second against"));
        assert!(said(NewLog, "ratio", "`no seat`").contains("logs the error `no seat`, never seen before"));
        assert!(said(NewLog, "messages/request", "").contains("errors a request against"));
        assert!(said(NewLog, "messages/min", "").contains("errors a minute against"));
        assert!(said(Silence, "restarts/h", "").contains("starts again and again"));
        assert!(said(Metric, "level", "`heap` in By").contains("has `heap` at 0.051 B against 0.0090 B"));
        assert!(
            said(Metric, "level", "`placed` in {order} a request").contains("has `placed` a request at 0.051 against")
        );
        assert!(said(Metric, "level", "`wait` in s a point").contains("has `wait` a point at 51.0 ms against 9.00 ms"));
        assert!(said(Metric, "level", "`load` in 1").contains("has `load` in 1 at"));
        assert!(said(Silence, "requests/s", "").contains("not served a single request"));
        assert!(said(Silence, "requests/s", "2026-01-01T00:00:00Z").contains("served nothing since"));
        assert!(said(NewException, "ratio", "`Oops`").contains("throws `Oops`, never seen before"));
    }

    #[test]
    fn the_arm_of_a_flag_is_named_with_its_flag() {
        let mut found = finding(SignalKind::ErrorRate, "ratio");
        found.explanation = Explanation {
            version: "on".to_owned(),
            against: "with off".to_owned(),
            flag: "new-prices".to_owned(),
            ..Explanation::default()
        };
        assert!(
            of(&found)
                .starts_with("payment with `new-prices` on `POST /charge` fails 5.1 % of calls against 0.9 % with off")
        );
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(["0", "0.0060", "0.041", "41.8", "1,811"], [0.0, 5.96e-3, 0.0405, 41.8, 1_811.2].map(number));
        assert_eq!(["-12.0", "-2,500", "4.0e-7"], [-12.0, -2_500.0, 4e-7].map(number));
        assert_eq!(["4.1x-7.8x", "3.7x", "at least 21.8x"], [[4.1, 7.8], [3.71, 3.72], [21.8, 9_999.0]].map(range));
        assert_eq!(range([1e-4, 1e4]), "by how much is not known");
        assert_eq!(["900 MiB", "12.0 B"], [943_718_400.0, 12.0].map(bytes));
        assert_eq!(["90 s", "14 min", "9 h", "2 days"], [90, 810, 29_106, 172_800].map(lasting));
        assert_eq!((part(1.0), part(0.92)), ("all of it".to_owned(), "92 % of it".to_owned()));
        assert_eq!(grouped(3_412), "3,412");
        assert_eq!(grouped(12), "12");
        assert_eq!(percent(0.051), "5.1 %");
        assert_eq!(percent(0.0002), "0.020 %");
        assert_eq!((times(4.1), times(1.052)), ("4.1x".to_owned(), "1.05x".to_owned()));
    }
}
