//! Results as people read them (tables) and as programs do (JSON).

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::generate::LoadReport;
use crate::kill::KillReport;
use crate::replay::ReplayReport;
use crate::stats::Quantiles;

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table.
    Table,
    /// One JSON object.
    Json,
}

/// A result that can be printed.
pub trait Printable: serde::Serialize {
    /// Returns it as a table.
    fn table(&self) -> Table;

    /// Returns it as text.
    fn print(&self, format: Format) -> String {
        match format {
            Format::Table => self.table().to_string(),
            Format::Json => serde_json::to_string_pretty(self).expect("plain data has a JSON form"),
        }
    }
}

pub(crate) fn pairs(rows: Vec<(&str, String)>) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    for (name, value) in rows {
        table.add_row(vec![name.to_owned(), value]);
    }
    if let Some(values) = table.column_mut(1) {
        values.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn ms(quantiles: &Quantiles) -> String {
    format!("{:.1} / {:.1} / {:.1}", quantiles.p50_ms, quantiles.p99_ms, quantiles.max_ms)
}

/// A whole number with its thousands apart.
pub(crate) fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

impl Printable for LoadReport {
    fn table(&self) -> Table {
        let counts = &self.counts;
        let mut rows = vec![
            ("run", self.run.clone()),
            ("seconds", format!("{:.1}", self.seconds)),
            ("records acked", whole(counts.acked_records as f64)),
            ("records rejected", whole(counts.rejected_records as f64)),
            ("requests acked", whole(counts.acked_requests as f64)),
            ("requests refused, retryable", whole(counts.refused_retryable as f64)),
            ("requests refused for good", whole(counts.refused_for_good as f64)),
            ("requests failed", whole(counts.failed as f64)),
            ("records/s", whole(self.records_per_second)),
            ("body bytes/record", format!("{:.0}", self.body_bytes_per_record)),
            ("ack ms, p50 / p99 / max", ms(&self.ack)),
        ];
        if let Some(freshness) = &self.freshness {
            rows.push(("freshness ms, p50 / p99 / max", ms(freshness)));
        }
        if let Some(cpu) = self.server_cpu_seconds {
            rows.push(("server CPU seconds", format!("{cpu:.1}")));
        }
        if let Some(rate) = self.records_per_cpu_second {
            rows.push(("records/CPU second", whole(rate)));
        }
        if let Some(bytes) = self.server_rss_max_bytes {
            rows.push(("server RSS max", mib(bytes)));
        }
        if self.repeated_records > 0 {
            rows.push(("records sent before", whole(self.repeated_records as f64)));
        }
        if let Some(stored) = self.stored_records {
            rows.push(("records stored", whole(stored as f64)));
        }
        if let Some(verified) = self.verified {
            rows.push(("acked and stored agree", if verified { "yes" } else { "NO" }.into()));
        }
        if let Some(problem) = &self.last_problem {
            rows.push(("last problem", problem.clone()));
        }
        pairs(rows)
    }
}

impl Printable for ReplayReport {
    fn table(&self) -> Table {
        pairs(vec![
            ("spans", whole(self.spans as f64)),
            ("log records", whole(self.logs as f64)),
            ("metric points", whole(self.points as f64)),
            ("requests", whole(self.requests as f64)),
            ("records rejected", whole(self.rejected as f64)),
            ("retries", whole(self.retries as f64)),
            ("times before 1970, unset", whole(self.times_unset as f64)),
            ("shifted by s", format!("{:.3}", self.shifted_by_ns as f64 / 1e9)),
            ("seconds", format!("{:.1}", self.seconds)),
        ])
    }
}

impl Printable for KillReport {
    fn table(&self) -> Table {
        let mut rows = vec![
            ("seed", self.seed.to_string()),
            ("kills", self.kills.to_string()),
            ("acked requests", whole(self.acked_requests as f64)),
            ("acked records", whole(self.acked_records as f64)),
            ("unacked requests", whole(self.unacked_requests as f64)),
            ("unacked but stored", whole(self.unacked_stored as f64)),
            ("sent again", whole(self.repeats as f64)),
            ("acked records lost", whole(self.lost_records as f64)),
            ("records duplicated", whole(self.duplicated_records as f64)),
            ("requests torn", whole(self.torn_requests as f64)),
            ("slowest start s", format!("{:.2}", self.slowest_start_seconds)),
        ];
        rows.extend(self.faults.iter().map(|fault| ("fault", fault.clone())));
        pairs(rows)
    }
}
