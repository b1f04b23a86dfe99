//! The report as people read it.

use std::fmt::Write;

use comfy_table::Table;
use comfy_table::presets::NOTHING;

use super::score::{MeshReport, Outcome, Totals};
use crate::report::Printable;

const HEADINGS: [&str; 9] =
    ["", "scenario", "deploy", "expected", "verdict", "culprit named first", "s", "paged", "design"];

impl Outcome {
    fn row(&self) -> [String; 9] {
        let seconds = self.seconds.map_or_else(String::new, |seconds| format!("{seconds:.0}"));
        let right = if !self.right {
            "WRONG"
        } else if self.culprit_right == Some(false) {
            "CULPRIT"
        } else if !self.pages_right {
            "PAGES"
        } else {
            "ok"
        };
        let named = self.culprit.clone().unwrap_or_default();
        let mut paged = format!("{}", self.detected);
        for (count, word) in [(self.updated, "updated"), (self.resolved, "resolved")] {
            if count > 0 {
                let _ = write!(paged, ", {word} {count}");
            }
        }
        let expected = if self.expected == "bad" && !self.suffices { "bad, too little" } else { self.expected };
        let deploy = format!("{} {}, {}", self.service, self.version, self.strategy);
        [
            right.to_owned(),
            self.scenario.to_owned(),
            deploy,
            expected.to_owned(),
            self.verdict.clone(),
            named,
            seconds,
            paged,
            self.design.clone(),
        ]
    }
}

impl Totals {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let percent =
            |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
        vec![
            ("precision", format!("{} ({} false alarms)", percent(self.precision), self.false_alarms)),
            (
                "recall",
                format!(
                    "{} ({} of {}, {} inconclusive)",
                    percent(self.recall),
                    self.caught,
                    self.bad,
                    self.inconclusive
                ),
            ),
            ("culprit named first", percent(self.culprit_first)),
            ("harmless passed", format!("{} of {}", self.passed, self.harmless)),
            (
                "seconds to confirmed, median / p90",
                format!("{} / {}", seconds(self.seconds_median), seconds(self.seconds_p90)),
            ),
            ("paged as often as is right", format!("{} of {}", self.pages_right, self.pages)),
        ]
    }
}

impl Printable for MeshReport {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(NOTHING);
        table.set_header(HEADINGS);
        for outcome in &self.outcomes {
            table.add_row(outcome.row());
        }
        for (name, value) in self.totals.rows() {
            table.add_row(["", name, &value]);
        }
        table
    }
}

/// The same deploy in every run.
struct Row<'a> {
    runs: Vec<&'a Outcome>,
}

impl Row<'_> {
    fn cells(&self) -> Vec<String> {
        let first = self.runs[0];
        let of = |count: usize, all: usize| if all == 0 { String::new() } else { format!("{count}/{all}") };
        let count = |keep: &dyn Fn(&&&Outcome) -> bool| self.runs.iter().filter(keep).count();
        let named = count(&|o| o.culprit_right == Some(true));
        let mut seconds: Vec<f64> = self.runs.iter().filter_map(|o| o.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).filter(|_| first.expected == "bad");
        vec![
            first.scenario.to_owned(),
            format!("{} {}, {}", first.service, first.version, first.strategy),
            if first.expected == "bad" && !first.suffices { "bad, too little" } else { first.expected }.to_owned(),
            of(count(&|o| o.verdict == "regressed"), self.runs.len()),
            of(count(&|o| o.verdict == "pass"), self.runs.len()),
            if first.expected == "bad" { of(named, count(&|o| o.culprit_right.is_some())) } else { String::new() },
            median.map_or_else(String::new, |seconds| format!("{seconds:.0}")),
            of(count(&|o| o.pages_right), self.runs.len()),
        ]
    }
}

impl MeshReport {
    /// Returns it as Markdown: the score, one row a deploy over all seeds, and every miss in its own words.
    pub fn markdown(&self) -> String {
        const COLUMNS: [&str; 8] =
            ["scenario", "deploy", "is", "regressed", "passed", "culprit first", "median s", "paged right"];
        let mut text = String::from("| | |\n|---|---|\n");
        for (name, value) in self.totals.rows() {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        let _ = writeln!(text, "\n| {} |\n|{}", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
        let mut rows: Vec<Row<'_>> = Vec::new();
        for outcome in &self.outcomes {
            let what = |o: &Outcome| (o.scenario, o.service.clone(), o.strategy.clone(), o.expected);
            // Versions of pods differ from run to run.
            match rows.iter_mut().find(|row| what(row.runs[0]) == what(outcome)) {
                Some(row) => row.runs.push(outcome),
                None => rows.push(Row { runs: vec![outcome] }),
            }
        }
        for row in rows {
            let _ = writeln!(text, "| {} |", row.cells().join(" | "));
        }
        let wrong = self.outcomes.iter().filter(|o| !o.right || o.culprit_right == Some(false) || !o.pages_right);
        for (at, outcome) in wrong.enumerate() {
            if at == 0 {
                text.push('\n');
            }
            let _ = writeln!(
                text,
                "- seed {}, {} ({} {}, {} events): {} [{}]",
                outcome.seed,
                outcome.scenario,
                outcome.service,
                outcome.version,
                outcome.detected,
                outcome.summary,
                outcome.data_quality.join(", ")
            );
        }
        text
    }
}
