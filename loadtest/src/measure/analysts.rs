//! People who ask SQL without pause while telemetry comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Sql;
use crate::stats::{Quantiles, micros};

/// What they ask, in turn: what one asks around a deploy, and some that look at everything.
const QUESTIONS: [&str; 6] = [
    "SELECT name, count(*), avg(CASE WHEN status_code = 'ERROR' THEN 1.0 ELSE 0.0 END), \
     approx_percentile_cont(duration_ns, 0.95) FROM spans WHERE service_name = 'checkout' \
     AND start_time > now() - INTERVAL '1 hour' GROUP BY name",
    "SELECT service_name, count(*) FROM spans GROUP BY service_name ORDER BY 2 DESC",
    "SELECT attributes['shop.tenant'], count(*) FROM spans GROUP BY 1 ORDER BY 2 DESC LIMIT 10",
    "SELECT trace_id, duration_ns FROM spans WHERE start_time > now() - INTERVAL '1 hour' ORDER BY duration_ns DESC LIMIT 20",
    "SELECT service_name, service_version, max(duration_ns) FROM spans WHERE status_code = 'ERROR' GROUP BY 1, 2",
    "SELECT date_bin(INTERVAL '10 seconds', start_time), count(*) FROM spans GROUP BY 1 ORDER BY 1",
];

/// What they saw.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Asked {
    /// How many asked at the same time.
    pub analysts: usize,
    /// Queries answered.
    pub answered: u64,
    /// Queries refused or failed.
    pub failed: u64,
    /// Time to the answer.
    pub took: Quantiles,
    /// The last refusal or failure.
    pub last_problem: Option<String>,
}

/// Analysts at work.
pub(crate) struct Analysts {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<(Histogram<u64>, u64, Option<String>)>,
}

impl Analysts {
    pub(crate) fn start(sql: &Sql, analysts: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for analyst in 0..analysts {
            tasks.spawn(ask(sql.clone(), analyst, Arc::clone(&stop)));
        }
        Self { stop, tasks }
    }

    pub(crate) async fn end(mut self) -> Asked {
        // Relaxed: nothing is handed over beside it.
        self.stop.store(true, Ordering::Relaxed);
        let analysts = self.tasks.len();
        let (mut took, mut failed, mut last_problem) = (micros(), 0, None);
        while let Some(one) = self.tasks.join_next().await {
            let (theirs, refused, problem) = one.expect("an analyst does not panic");
            took.add(&theirs).expect("both have the same bounds");
            failed += refused;
            last_problem = last_problem.or(problem);
        }
        Asked { analysts, answered: took.len(), failed, took: Quantiles::of(&took), last_problem }
    }
}

async fn ask(sql: Sql, analyst: usize, stop: Arc<AtomicBool>) -> (Histogram<u64>, u64, Option<String>) {
    let (mut took, mut failed, mut last_problem) = (micros(), 0, None);
    let mut turn = analyst;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match sql.query(QUESTIONS[turn % QUESTIONS.len()]).await {
            Ok(_) => took.saturating_record(began.elapsed().as_micros() as u64),
            Err(problem) => {
                failed += 1;
                last_problem = Some(problem.to_string());
            }
        }
        turn += 1;
    }
    (took, failed, last_problem)
}
