//! A measurement as the tables of the performance page, in Markdown.

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use super::compare::best;
use super::own::{MEMORY_LIMITS_MIB, memory_ratios};
use super::{Measurements, Run, SoakReport};
use crate::report::{Format, Printable, mib, whole};
use crate::stats::Quantiles;
use crate::system::Kind;

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table
}

/// Thousands, as one reads rates.
fn thousands(rate: f64) -> String {
    if rate >= 10_000.0 { format!("{} k", whole(rate / 1000.0)) } else { whole(rate) }
}

fn p50_p99(quantiles: &Quantiles) -> String {
    format!("{:.1} / {:.1}", quantiles.p50_ms, quantiles.p99_ms)
}

fn fine(quantiles: &Quantiles) -> String {
    format!("{:.2} / {:.2}", quantiles.p50_ms, quantiles.p99_ms)
}

fn mean(of: [f64; 2]) -> f64 {
    of.iter().sum::<f64>() / 2.0
}

fn median(of: impl Iterator<Item = f64>) -> Option<f64> {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    let upper = *all.get(all.len() / 2)?;
    Some(mean([all[(all.len() - 1) / 2], upper]))
}

fn yes(verified: Option<bool>) -> String {
    verified.map_or("-", |right| if right { "yes" } else { "NO" }).to_owned()
}

fn of(one: f64, other: f64) -> String {
    if other > 0.0 { format!("{:.2}", one / other) } else { "-".to_owned() }
}

impl Measurements {
    fn compared(&self) -> Option<Table> {
        let best = best(&self.runs);
        if best.is_empty() {
            return None;
        }
        let ours = |stream: &str| best.iter().find(|run| run.system == Kind::Plimsoll && run.stream == stream);
        let row = |run: &&Run| {
            let ratio = ours(run.stream).map_or_else(
                || "-".into(),
                |ours| of(ours.records_per_whole_cpu_second, run.records_per_whole_cpu_second),
            );
            let rates = self.runs.iter().filter(|other| other.stream == run.stream && other.system == run.system);
            let worst = rates.map(|other| other.records_per_whole_cpu_second).fold(f64::INFINITY, f64::min);
            let spread = (run.records_per_whole_cpu_second / worst.max(1.0) - 1.0) * 100.0;
            vec![
                run.stream.to_owned(),
                run.system.name().to_owned(),
                run.ack_class.to_string(),
                thousands(run.records_per_second),
                thousands(run.records_per_cpu_second),
                thousands(run.records_per_whole_cpu_second),
                format!("{spread:.0} %"),
                ratio,
                mib(run.rss_max_bytes),
                p50_p99(&run.ack),
                run.stored_bytes_per_record.map_or_else(|| "-".into(), |bytes| format!("{bytes:.0}")),
                yes(run.verified),
            ]
        };
        Some(table(
            &[
                "stream",
                "system",
                "acked when",
                "records/s",
                "per CPU s, load",
                "per CPU s, to the end",
                "spread",
                "plimsoll is x times",
                "RSS max",
                "ack p50 / p99 ms",
                "stored B/record",
                "all found",
            ],
            best.iter().map(row),
        ))
    }

    fn latencies(&self) -> Option<Table> {
        let row = |one: &super::Latency| {
            vec![
                one.stream.to_owned(),
                thousands(one.saturated_records_per_second),
                p50_p99(&one.saturated_ack),
                p50_p99(&one.half_load_ack),
                format!("{}; {}", fine(&one.device_request.busy), fine(&one.device_request.paced)),
                of(one.half_load_ack.p50_ms, one.device_request.paced.p50_ms),
                fine(&one.small_ack),
                format!("{}; {}", fine(&one.device.busy), fine(&one.device.paced)),
                of(one.small_ack.p50_ms, one.device.paced.p50_ms),
                one.freshness.as_ref().map_or_else(|| "-".into(), p50_p99),
                yes(one.verified),
            ]
        };
        let header = [
            "stream",
            "saturated, records/s",
            "ack saturated, p50 / p99 ms",
            "ack at half, p50 / p99 ms",
            "fdatasync of as much as a request: without a pause; at that pace",
            "p50 is x times the latter",
            "ack of ten records, nothing else, p50 / p99 ms",
            "fdatasync of 16 KiB: without a pause; at that pace",
            "p50 is x times the latter",
            "visible in SQL, p50 / p99 ms",
            "all found",
        ];
        (!self.latency.is_empty()).then(|| table(&header, self.latency.iter().map(row)))
    }

    fn stored(&self) -> Option<Table> {
        let row = |one: &super::Storage| {
            let ours = self.storage.iter().find(|other| other.stream == one.stream && other.system == Kind::Plimsoll);
            vec![
                one.stream.to_owned(),
                one.system.name().to_owned(),
                whole(one.records as f64),
                format!("{:.0}", one.wire_bytes_per_record),
                format!("{:.1}", one.ended_bytes_per_record),
                format!("{:.1}", one.settled_bytes_per_record),
                ours.map_or_else(|| "-".into(), |ours| of(ours.settled_bytes_per_record, one.settled_bytes_per_record)),
            ]
        };
        let header = [
            "stream",
            "system",
            "records",
            "wire B/record",
            "B/record, ended",
            "B/record, settled",
            "plimsoll takes x of it",
        ];
        (!self.storage.is_empty()).then(|| table(&header, self.storage.iter().map(row)))
    }

    fn overloads(&self) -> Option<Table> {
        let row = |one: &super::Overload| {
            vec![
                one.protocol.to_string(),
                thousands(one.offered_records_per_second),
                thousands(one.acked_records_per_second),
                whole(one.refused_retryable as f64),
                whole(one.failed as f64),
                mib(one.rss_max_bytes),
                of(one.rss_max_bytes as f64, one.memory_limit_bytes as f64),
                yes(one.verified),
            ]
        };
        let header = [
            "protocol",
            "offered/s",
            "acked/s",
            "refused retryably",
            "failed",
            "RSS max",
            "of `memory_limit`",
            "all found",
        ];
        (!self.overload.is_empty()).then(|| table(&header, self.overload.iter().map(row)))
    }

    fn memories(&self) -> Option<Table> {
        self.memory.first()?;
        let ratios = memory_ratios(&self.memory);
        let row = |one: &super::Memory| {
            let halved = one.memory_limit_bytes == MEMORY_LIMITS_MIB[1] << 20;
            let ratio = ratios.iter().find(|(pair, _)| halved && *pair == one.pair);
            vec![
                one.pair.to_string(),
                mib(one.memory_limit_bytes),
                mib(one.idle_rss_bytes),
                mib(one.rss_max_bytes),
                thousands(one.records_per_second),
                thousands(one.records_per_cpu_second),
                ratio.map_or_else(|| "-".into(), |(_, ratio)| format!("{ratio:.2}")),
            ]
        };
        let header = [
            "pair",
            "memory_limit",
            "resident at rest",
            "RSS max, saturated",
            "records/s",
            "per CPU s",
            "of the default in its pair",
        ];
        let mut table = table(&header, self.memory.iter().map(row));
        if let Some(median) = median(ratios.iter().map(|(_, ratio)| *ratio)) {
            table.add_row(["median", "-", "-", "-", "-", "-", &format!("{median:.2}")]);
        }
        Some(table)
    }

    fn isolated(&self) -> Option<Table> {
        let one = self.isolation.as_ref()?;
        let asked = &one.asked;
        let header = ["", "alone, before; after", "beside analysts", "of the mean alone"];
        Some(table(
            &header,
            [
                vec![
                    "records/s, saturated".into(),
                    one.alone_records_per_second.map(thousands).join("; "),
                    thousands(one.beside_records_per_second),
                    of(one.beside_records_per_second, mean(one.alone_records_per_second)),
                ],
                vec![
                    "ack at half load, p50 / p99 ms".into(),
                    one.alone_ack.each_ref().map(p50_p99).join("; "),
                    p50_p99(&one.beside_ack),
                    of(one.beside_ack.p99_ms, mean(one.alone_ack.each_ref().map(|ack| ack.p99_ms))),
                ],
                vec![
                    format!("queries of {} analysts: answered / failed", asked.analysts),
                    "-".into(),
                    format!("{} / {}", asked.answered, asked.failed),
                    "-".into(),
                ],
                vec!["query p50 / p99 ms".into(), "-".into(), p50_p99(&asked.took), "-".into()],
            ],
        ))
    }

    fn scaled(&self) -> Option<Table> {
        let first = self.cores.first()?;
        let row = |one: &super::Cores| {
            vec![
                one.cpus.clone(),
                thousands(one.records_per_second),
                thousands(one.records_per_cpu_second),
                format!("{:.2}", one.busy),
                of(one.records_per_second, first.records_per_second),
            ]
        };
        let header = ["processors", "records/s", "per CPU s", "processors busy", "of one"];
        Some(table(&header, self.cores.iter().map(row)))
    }

    fn days(&self) -> Option<Table> {
        let row = |one: &super::Day| {
            let per = |records: u64| thousands(records as f64 / one.whole_cpu_seconds.max(0.01));
            vec![
                one.system.name().to_owned(),
                one.ack_class.to_string(),
                one.batch
                    .map_or_else(|| "as recorded".into(), |records| format!("joined to {}", whole(records as f64))),
                whole(one.requests as f64),
                format!("{} / {} / {}", whole(one.spans as f64), whole(one.logs as f64), whole(one.points as f64)),
                format!("{:.0}", one.body_bytes_per_record),
                thousands(one.records_per_second),
                thousands(one.records_per_whole_cpu_second),
                format!("{} / {} / {}", per(one.spans), per(one.logs), per(one.points)),
                mib(one.rss_max_bytes),
                one.stored_bytes_per_record.map_or_else(|| "-".into(), |bytes| format!("{bytes:.0}")),
                yes(one.verified),
            ]
        };
        let header = [
            "system",
            "acked when",
            "sent",
            "requests",
            "spans / logs / points",
            "wire B/record",
            "records/s",
            "per CPU s, to the end",
            "of them spans / logs / points",
            "RSS max",
            "stored B/record",
            "all found",
        ];
        (!self.day.is_empty()).then(|| table(&header, self.day.iter().map(row)))
    }

    fn failed(&self) -> Option<Table> {
        let row = |one: &super::Failure| vec![one.what.clone(), one.why.replace('\n', " ")];
        (!self.failures.is_empty()).then(|| table(&["not measured", "why"], self.failures.iter().map(row)))
    }

    /// Returns a page with every table under its heading.
    pub fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "# Results\n\nWritten by `plimsoll-loadtest measure`; what the columns mean stands in [Performance](README.md).\n\n\
             - {}, {} MiB of memory, {}, data on {}\n- {}, commit {}, {} UTC, load average before {}, {:.0} s in all\n\
             - `{}`\n",
            machine.processor,
            machine.memory_mib,
            machine.kernel,
            machine.disk,
            machine.program,
            machine.commit,
            machine.date,
            machine.load_average,
            self.seconds,
            machine.command,
        );
        let parts = [
            ("Streams at systems (best round)", self.compared()),
            ("Time to the ack, to visible, and the disk", self.latencies()),
            ("On disk", self.stored()),
            ("Four times the load, spans of 440 B", self.overloads()),
            ("Memory", self.memories()),
            ("Ingest beside queries", self.isolated()),
            ("Cores", self.scaled()),
            ("A recorded day", self.days()),
            ("What could not be measured", self.failed()),
        ];
        for (heading, table) in parts {
            if let Some(table) = table {
                text.push_str(&format!("\n## {heading}\n\n{table}\n"));
            }
        }
        text
    }
}

impl Printable for Measurements {
    fn table(&self) -> Table {
        self.compared().unwrap_or_default()
    }

    fn print(&self, format: Format) -> String {
        match format {
            Format::Table => self.markdown(),
            Format::Json => serde_json::to_string_pretty(self).expect("plain data has a JSON form"),
        }
    }
}

impl Printable for SoakReport {
    fn table(&self) -> Table {
        let third = |at: usize| {
            self.thirds.get(at).map_or_else(
                || "-".to_owned(),
                |third| {
                    let (median, most) = (mib(third.rss_median_bytes), mib(third.rss_max_bytes));
                    format!("{median} / {most}, {} files", third.descriptors_max)
                },
            )
        };
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        table(
            &["soak", ""],
            [
                row("records/s offered", whole(self.offered_records_per_second)),
                row("records acked", whole(self.acked_records as f64)),
                row("requests not acked", whole(self.unacked_requests as f64)),
                row("ack ms, p50 / p99", p50_p99(&self.ack)),
                row("first third: RSS median / max, files", third(0)),
                row("second third", third(1)),
                row("last third", third(2)),
                row("flat", yes(Some(self.flat))),
                row("all found", yes(self.verified)),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Cores, Failure, Memory};
    use crate::system::AckClass;

    fn run(system: Kind, round: u32, rate: f64) -> Run {
        Run {
            system,
            stream: "spans 440 B, gRPC",
            round,
            ack_class: AckClass::Synced,
            seconds: 5.0,
            acked_records: 1000,
            unacked_requests: 0,
            records_per_second: rate,
            load_cpu_seconds: 1.0,
            whole_cpu_seconds: 1.0,
            records_per_cpu_second: rate,
            records_per_whole_cpu_second: rate,
            rss_max_bytes: 1 << 20,
            ack: Quantiles { p50_ms: 1.0, p99_ms: 2.0, max_ms: 3.0, count: 9 },
            stored_bytes_per_record: None,
            disk_bytes_per_record: 0.0,
            verified: None,
            last_problem: None,
        }
    }

    #[test]
    fn the_best_round_of_each_pair_is_shown_with_its_spread_and_its_ratio_to_ours() {
        let runs = vec![
            run(Kind::Mira, 1, 100_000.0),
            run(Kind::Plimsoll, 1, 300_000.0),
            run(Kind::Plimsoll, 2, 330_000.0),
            run(Kind::Mira, 2, 110_000.0),
        ];
        let cores = vec![Cores { cpus: "0".into(), records_per_second: 5.0, records_per_cpu_second: 5.0, busy: 1.0 }];
        let failures = vec![Failure { what: "rotel".into(), why: "no\nwheel".into() }];
        let text = Measurements { runs, cores, failures, ..Default::default() }.markdown();
        let line = |start: &str| text.lines().find(|line| line.contains(start)).unwrap_or_else(|| panic!("{text}"));
        assert!(line("| plimsoll | ").contains("330 k") && line("| plimsoll | ").contains("10 %"), "{text}");
        assert!(line("| mira ").contains("| 3.00 "), "{text}");
        assert!(line("| rotel ").contains("no wheel"), "{text}");
        assert!(text.contains("## Cores") && !text.contains("## A recorded day"), "{text}");
    }

    #[test]
    fn half_the_memory_is_held_against_the_default_of_its_own_pair_and_the_median_of_pairs_is_told() {
        let one = |pair, limit_mib: u64, rate| Memory {
            pair,
            memory_limit_bytes: limit_mib << 20,
            idle_rss_bytes: 0,
            rss_max_bytes: 0,
            records_per_cpu_second: rate,
            records_per_second: rate,
        };
        // The machine goes half as fast from the second pair on, and one run of the third failed.
        let memory = vec![
            one(1, 512, 400_000.0),
            one(1, 256, 360_000.0),
            one(2, 512, 200_000.0),
            one(2, 256, 160_000.0),
            one(3, 256, 190_000.0),
        ];
        let text = Measurements { memory, ..Default::default() }.markdown();
        let last = |start: &str| {
            let line = text.lines().find(|line| line.contains(start)).unwrap_or_else(|| panic!("{text}"));
            line.rsplit('|').nth(1).expect("a row has cells").trim().to_owned()
        };
        let cells = ["400 k", "360 k", "200 k", "160 k", "190 k", "median"].map(last);
        assert_eq!(cells, ["-", "0.90", "-", "0.80", "-", "0.85"], "{text}");
    }
}
