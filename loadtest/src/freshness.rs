//! How soon an acked record is visible: one span at a time is sent beside the load and looked for in SQL until it is found.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use rand::Rng;
use tokio::time::Instant;

use crate::bodies::now_ns;
use crate::client::{Connection, Endpoint, Reply};
use crate::generate::Clock;
use crate::records::{Shape, Signal};
use crate::sql::Sql;
use crate::stats::micros;
use crate::template::{self, Template, trace_id};

/// Pause between probes: often enough for a p99 in half a minute, seldom enough not to be a load of its own.
const PAUSE: Duration = Duration::from_millis(100);

/// A record that is not visible after this long counts with this time.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Probes until the load ends; returns microseconds from the ack to the first query that found the span.
pub(crate) async fn probe(endpoint: Endpoint, shape: Shape, sql: Sql, clock: Arc<Clock>) -> Histogram<u64> {
    let mut seen = micros();
    // An instance of its own keeps probes out of the counts of the load.
    let shape = Shape { instance: "freshness-probe".into(), trace_len: 1, ..shape };
    let template = Template::new(Signal::Traces, &shape, 1, 0);
    let mut batch = (1 << 46) + u64::from(rand::rng().random::<u32>());
    let Ok(mut connection) = Connection::open(endpoint).await else {
        return seen;
    };
    while !clock.is_stopped() {
        tokio::time::sleep(PAUSE).await;
        batch += 1;
        let body = template::whole(template.render(batch, now_ns()), endpoint.compression);
        match connection.send(Signal::Traces, body).await {
            Ok(Reply::Accepted { .. }) => {}
            Ok(Reply::Refused { .. }) => continue,
            Err(_) => match Connection::open(endpoint).await {
                Ok(again) => {
                    connection = again;
                    continue;
                }
                Err(_) => return seen,
            },
        }
        let acked = Instant::now();
        let id = trace_id(batch, 0).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let query = format!("SELECT count(*) FROM spans WHERE trace_id = '{id}'");
        while acked.elapsed() < GIVE_UP && !matches!(sql.number(&query).await, Ok(1..)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        seen.saturating_record(acked.elapsed().as_micros() as u64);
    }
    seen
}
