//! A recording sent again over OTLP, moved in time and at a chosen speed, in its order, with bounded memory.

use std::str::FromStr;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::time::Instant;

use crate::Error;
use crate::bodies::now_ns;
use crate::client::{Connection, Endpoint, Protocol, Reply};
use crate::joining::Joining;
use crate::otlp_json::to_protobuf;
use crate::recording::{self, Line, Recording};
use crate::records::Signal;

/// How the times of a recording are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    /// Not at all.
    None,
    /// So that it begins now.
    Now,
    /// By so many nanoseconds, forwards or backwards.
    By(i64),
}

impl FromStr for Shift {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "now" => Ok(Self::Now),
            span => {
                let span: jiff::SignedDuration = span
                    .parse()
                    .map_err(|_| format!("`{span}` is neither `now`, `none` nor a duration such as `26h` or `-90m`"))?;
                i64::try_from(span.as_nanos()).map(Self::By).map_err(|_| format!("`{span}` is longer than 292 years"))
            }
        }
    }
}

/// How fast a recording is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// As fast as the receiver takes it.
    Max,
    /// So many times as fast as it was recorded.
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            factor => match factor.parse::<f64>() {
                Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(Self::Times(factor)),
                _ => Err(format!("`{factor}` is neither `max` nor a number above zero")),
            },
        }
    }
}

/// Where to play to.
#[derive(Debug, Clone, Copy)]
pub struct ReplayTarget {
    /// Where to, and how.
    pub endpoint: Endpoint,
    /// Requests on the way at once. With one, each is acked before the next is sent; with more, they are sent in order.
    pub in_flight: usize,
    /// A request refused for now is sent again for this long.
    pub retry_for: Duration,
}

/// A recording to play.
pub struct Replay {
    /// What to play.
    pub recording: Recording,
    /// To where.
    pub target: ReplayTarget,
    /// Moved how.
    pub shift: Shift,
    /// How fast.
    pub speed: Speed,
    /// Joins neighbouring requests of a signal until they hold so many records, as a Collector's batch processor does.
    pub batch: Option<u64>,
}

/// What was played.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct ReplayReport {
    /// Requests acked.
    pub requests: u64,
    /// Spans acked.
    pub spans: u64,
    /// Log records acked.
    pub logs: u64,
    /// Metric points acked.
    pub points: u64,
    /// Records that partial successes left out.
    pub rejected: u64,
    /// Times that a request was sent again.
    pub retries: u64,
    /// Times before 1970, which OTLP cannot say, that were sent as "no time".
    pub times_unset: u64,
    /// Nanoseconds that were added to every time.
    pub shifted_by_ns: i64,
    /// Seconds it took.
    pub seconds: f64,
}

struct Acked {
    signal: Signal,
    records: u64,
    times_unset: u64,
    rejected: u64,
    retries: u64,
}

impl Replay {
    /// Plays all of it.
    ///
    /// # Errors
    /// The recording cannot be read, the receiver refuses a request for good, or it stays away for longer than
    /// `retry_for`.
    pub async fn run(self) -> Result<ReplayReport, Error> {
        let Self { recording, target, shift, speed, batch } = self;
        let begins = recording.begins();
        let shift_ns = match shift {
            Shift::None => 0,
            Shift::By(by) => by,
            Shift::Now => begins.map_or(0, |begins| now_ns().cast_signed() - begins.cast_signed()),
        };
        let start = Instant::now();
        let senders = Senders::open(target).await?;
        // Lines are read only as fast as they can be sent: `buffered` holds `in_flight` of them.
        let factor = match speed {
            Speed::Max => None,
            Speed::Times(factor) => Some(factor),
        };
        let joining = Joining::new(recording, batch, factor);
        let lines = stream::try_unfold(joining, |mut joining| async move {
            let line = joining.next_line()?;
            Ok(line.map(|line| (line, joining)))
        });
        let sends = lines.map(|line: Result<Line, Error>| {
            let senders = &senders;
            async move {
                let mut line = line?;
                let due = due(start, begins, &line, speed);
                recording::shift(&mut line.request, shift_ns);
                let signal = line.signal;
                let body = match target.endpoint.protocol {
                    Protocol::HttpJson => serde_json::to_vec(&line.request)
                        .map_err(|problem| Error::Usage(format!("a request has no JSON form: {problem}")))?,
                    Protocol::Grpc | Protocol::Http => to_protobuf(signal, &line.request)
                        .map_err(|problem| Error::Usage(format!("the recording holds no OTLP/JSON: {problem}")))?,
                };
                if let Some(due) = due {
                    tokio::time::sleep_until(due).await;
                }
                let (rejected, retries) = senders.send(signal, &body).await?;
                Ok::<_, Error>(Acked {
                    signal,
                    records: line.records,
                    times_unset: line.times_unset,
                    rejected,
                    retries,
                })
            }
        });
        let mut acks = std::pin::pin!(sends.buffered(target.in_flight.max(1)));
        let mut report = ReplayReport { shifted_by_ns: shift_ns, ..ReplayReport::default() };
        while let Some(acked) = acks.next().await {
            report.count(&acked?);
        }
        report.seconds = start.elapsed().as_secs_f64();
        Ok(report)
    }
}

/// A line is due when its last record has happened, as an exporter that collects a batch would send it.
fn due(start: Instant, begins: Option<u64>, line: &Line, speed: Speed) -> Option<Instant> {
    let Speed::Times(factor) = speed else {
        return None;
    };
    let (_, last) = line.times?;
    let offset = Duration::from_nanos(last.saturating_sub(begins?));
    Some(start + offset.div_f64(factor))
}

impl ReplayReport {
    fn count(&mut self, acked: &Acked) {
        self.requests += 1;
        self.times_unset += acked.times_unset;
        self.rejected += acked.rejected;
        self.retries += acked.retries;
        let taken = acked.records - acked.rejected.min(acked.records);
        match acked.signal {
            Signal::Traces => self.spans += taken,
            Signal::Logs => self.logs += taken,
            Signal::Metrics => self.points += taken,
        }
    }
}

/// Connections that wait for their next request.
struct Senders {
    target: ReplayTarget,
    idle: tokio::sync::Mutex<Vec<Connection>>,
}

impl Senders {
    async fn open(target: ReplayTarget) -> Result<Self, Error> {
        let first = Connection::open(target.endpoint).await.map_err(|problem| Error::Unreachable {
            address: target.endpoint.address.to_string(),
            problem: problem.to_string(),
        })?;
        Ok(Self { target, idle: tokio::sync::Mutex::new(vec![first]) })
    }

    /// Sends until it is acked. Returns records rejected, and how often it was sent again.
    async fn send(&self, signal: Signal, message: &[u8]) -> Result<(u64, u64), Error> {
        let deadline = Instant::now() + self.target.retry_for;
        let mut wait = Duration::from_millis(50);
        for retries in 0.. {
            let (problem, after) = match self.try_send(signal, message).await {
                Ok(Reply::Accepted { rejected }) => return Ok((rejected, retries)),
                Ok(Reply::Refused { retryable: false, problem, .. }) => return Err(Error::Refused { signal, problem }),
                Ok(Reply::Refused { retry_after, problem, .. }) => (problem, retry_after),
                Err(problem) => (problem.to_string(), None),
            };
            wait = after.unwrap_or_else(|| (wait * 2).min(Duration::from_secs(5)));
            if Instant::now() + wait > deadline {
                return Err(Error::Unreachable { address: self.target.endpoint.address.to_string(), problem });
            }
            tokio::time::sleep(wait).await;
        }
        unreachable!("the loop ends by returning")
    }

    async fn try_send(&self, signal: Signal, message: &[u8]) -> Result<Reply, crate::SendError> {
        let idle = self.idle.lock().await.pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::open(self.target.endpoint).await?,
        };
        let reply = connection.send_message(signal, message).await?;
        // One that failed is dropped, not put back.
        self.idle.lock().await.push(connection);
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_and_speeds_are_read_as_people_write_them() {
        assert_eq!("now".parse(), Ok(Shift::Now));
        assert_eq!("none".parse(), Ok(Shift::None));
        assert_eq!("-90m".parse(), Ok(Shift::By(-5_400_000_000_000)));
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("60".parse(), Ok(Speed::Times(60.0)));
        assert!("soon".parse::<Shift>().is_err());
        assert!("0".parse::<Speed>().is_err());
    }
}
