//! A finding as one sentence that an engineer believes.
//!
//! Every face says the same words: the sentence follows from the finding alone, so that what is stored, sent and shown
//! cannot differ.

use crate::verdict::{Common, Culprit, Explanation, Finding, SignalKind};

/// Says what a finding found, as one sentence without a full stop.
pub fn of(finding: &Finding) -> String {
    let Finding { service, operation, baseline, candidate, interval, explanation, .. } = finding;
    let Explanation { version, against, subject, .. } = explanation;
    let calls = grouped(candidate.n);
    let who = if version.is_empty() { service.clone() } else { format!("{service} {version}") };
    let range = format!("{}-{}", times(interval[0]), times(interval[1]));
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
        SignalKind::Throughput => format!(
            "{who} gets {} requests a second against {} {}",
            number(candidate.value),
            number(baseline.value),
            if against.is_empty() { "before the deploy" } else { against }
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
        SignalKind::Metric => format!(
            "{who} has {subject} at {} against {} {against} ({range}){because}",
            number(candidate.value),
            number(baseline.value)
        ),
        SignalKind::Silence if finding.unit == "restarts/h" => format!(
            "{who} starts again and again: {} restarts an hour of each instance against {} ({} starts)",
            number(candidate.value),
            number(baseline.value),
            grouped(candidate.n)
        ),
        SignalKind::Silence if subject.is_empty() => {
            format!("{who} has not served a single request since it was deployed")
        }
        SignalKind::Silence => format!("{who} has served nothing since {subject}"),
        SignalKind::NewException => format!(
            "{who} `{operation}` throws {subject}, never seen before ({} of {calls} calls)",
            percent(candidate.value)
        ),
    };
    if let Some(split) = &explanation.split
        && split.mix.abs() >= 0.1 * (split.within.abs() + split.mix.abs())
    {
        text.push_str(&format!(
            "; {} within, {} by a change of mix, which does not count",
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
    let share = |common: &Common| percent_whole(common.share);
    match (&explanation.cause, &explanation.place) {
        (Some(cause), None) => format!(", {} of it {}", share(cause), cause.name),
        (Some(cause), Some(place)) => format!(", {} of it {} when `{}`", share(cause), cause.name, place.name),
        (None, Some(place)) => format!(", {} of it when `{}`", share(place), place.name),
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

/// Writes a share as a percentage, with as many digits as tell something.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value == 0.0 || value >= 0.1 { format!("{value:.1} %") } else { format!("{value:.3} %") }
}

fn percent_whole(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Writes a difference of shares in percentage points.
fn points(difference: f64) -> String {
    format!("{:+.2} points", difference * 100.0)
}

fn times(ratio: f64) -> String {
    match ratio {
        9_000.0.. => "no upper bound".to_owned(),
        2.0..10.0 => format!("{ratio:.1}x"),
        _ => format!("{}x", number(ratio)),
    }
}

/// Writes a number with about three digits.
pub fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else if value == 0.0 || value.abs() >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.2e}")
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
        found.explanation.cause = Some(Common { name: "`CardDeclined: issuer timeout`".to_owned(), share: 0.92 });
        found.explanation.place = Some(Common { name: "region=eu".to_owned(), share: 0.9 });
        assert_eq!(
            of(&found),
            "payment 2.0.0 `POST /charge` fails 5.1 % of calls against 0.9 % on 1.9.3 (4.1x-7.8x, 3,412 calls), \
             92 % of it `CardDeclined: issuer timeout` when `region=eu`"
        );
        found.explanation.cause = None;
        found.explanation.split = Some(Split { within: 0.03, mix: 0.012 });
        assert!(
            of(&found).ends_with("90 % of it when `region=eu`; +3.00 points within, +1.20 points by a change of mix, which does not count"),
            "{}",
            of(&found)
        );
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
        assert!(said(Throughput, "requests/s", "").contains("requests a second against"));
        assert!(said(NewLog, "ratio", "`no seat`").contains("logs the error `no seat`, never seen before"));
        assert!(said(NewLog, "messages/request", "").contains("errors a request against"));
        assert!(said(NewLog, "messages/min", "").contains("errors a minute against"));
        assert!(said(Silence, "restarts/h", "").contains("starts again and again"));
        assert!(said(Metric, "level", "`heap` in By").contains("has `heap` in By at"));
        assert!(said(Silence, "requests/s", "").contains("not served a single request"));
        assert!(said(Silence, "requests/s", "2026-01-01T00:00:00Z").contains("served nothing since"));
        assert!(said(NewException, "ratio", "`Oops`").contains("throws `Oops`, never seen before"));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(3_412), "3,412");
        assert_eq!(grouped(12), "12");
        assert_eq!(percent(0.051), "5.1 %");
        assert_eq!(percent(0.0002), "0.020 %");
        assert_eq!((times(4.1), times(1.052)), ("4.1x".to_owned(), "1.05x".to_owned()));
    }
}
