//! Neighbouring requests of a recording made one, as the batch processor of a Collector makes batches of what it receives.
//!
//! *Rules.* Requests of one signal are put behind one another until they hold so many records; what is there then is sent whole, as is one
//! that holds more by itself. What has waited for longer than [`WAIT`] is sent as it is, where the recording is played at some speed: at full
//! speed no time passes. Nothing is left out, and requests of one signal keep their order.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;

use crate::Error;
use crate::recording::{Line, Recording};
use crate::records::Signal;

/// How long a request waits for others, as in a Collector that is told nothing else.
const WAIT: Duration = Duration::from_millis(200);

/// A recording whose requests are joined.
pub(crate) struct Joining {
    recording: Recording,
    /// Records that make a request whole; `None` leaves every one as it was recorded.
    records: Option<u64>,
    /// What [`WAIT`] is in the time of the recording.
    wait_ns: Option<u64>,
    waiting: [Option<Line>; 3],
    ready: VecDeque<Line>,
}

impl Joining {
    /// Joins requests to so many records each. `speed` is how many times as fast as recorded it is played; `None` says as fast as it goes.
    pub(crate) fn new(recording: Recording, records: Option<u64>, speed: Option<f64>) -> Self {
        let wait_ns = speed.map(|factor| (WAIT.as_nanos() as f64 * factor) as u64);
        Self { recording, records, wait_ns, waiting: [None, None, None], ready: VecDeque::new() }
    }

    /// Takes the next request; `None` at the end.
    ///
    /// # Errors
    /// Those of [`Recording::next_line`].
    pub(crate) fn next_line(&mut self) -> Result<Option<Line>, Error> {
        let Some(records) = self.records else { return self.recording.next_line() };
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            let Some(line) = self.recording.next_line()? else {
                let last = self.waiting.iter_mut().filter_map(Option::take);
                self.ready.extend(last);
                return Ok(self.ready.pop_front());
            };
            if let (Some(wait), Some((_, now))) = (self.wait_ns, line.times) {
                let since = |waiting: &Line| waiting.times.map_or(0, |(_, last)| now.saturating_sub(last));
                let late = self.waiting.iter_mut().filter_map(|waiting| waiting.take_if(|line| since(line) > wait));
                self.ready.extend(late);
            }
            let waiting = &mut self.waiting[place(line.signal)];
            match waiting {
                Some(first) => first.append(line),
                None => *waiting = Some(line),
            }
            self.ready.extend(waiting.take_if(|line| line.records >= records));
        }
    }
}

fn place(signal: Signal) -> usize {
    match signal {
        Signal::Traces => 0,
        Signal::Logs => 1,
        Signal::Metrics => 2,
    }
}

impl Line {
    /// Puts what another request of the same signal holds behind what this one holds.
    fn append(&mut self, other: Self) {
        let key = match self.signal {
            Signal::Traces => "resourceSpans",
            Signal::Logs => "resourceLogs",
            Signal::Metrics => "resourceMetrics",
        };
        let mut more = other.request;
        if let (Some(Value::Array(items)), Some(Value::Array(more))) = (self.request.get_mut(key), more.get_mut(key)) {
            items.append(more);
        }
        self.records += other.records;
        self.times_unset += other.times_unset;
        self.times = match (self.times, other.times) {
            (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
            (one, other) => one.or(other),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A request of one log record at every one of these seconds.
    fn log(seconds: &[u64]) -> String {
        let records: Vec<Value> = seconds.iter().map(|at| json!({"timeUnixNano": at * 1_000_000_000})).collect();
        json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).to_string()
    }

    fn span(second: u64) -> String {
        let span = json!({"startTimeUnixNano": second * 1_000_000_000, "endTimeUnixNano": second * 1_000_000_000});
        json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string()
    }

    fn joined(lines: &[String], records: Option<u64>, speed: Option<f64>) -> Vec<Line> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("a.jsonl"), lines.join("\n")).expect("written");
        let recording = Recording::open(&[dir.path().to_owned()]).expect("requests");
        let mut joining = Joining::new(recording, records, speed);
        std::iter::from_fn(|| joining.next_line().expect("requests")).collect()
    }

    fn shape(lines: &[Line]) -> Vec<(Signal, u64)> {
        lines.iter().map(|line| (line.signal, line.records)).collect()
    }

    #[test]
    fn requests_are_joined_until_they_hold_enough_and_nothing_is_lost() {
        let lines = [log(&[1, 2]), span(2), log(&[3]), log(&[4, 5, 6, 7]), span(8), log(&[9])];
        let (logs, traces) = (Signal::Logs, Signal::Traces);
        assert_eq!(shape(&joined(&lines, None, None)).len(), 6, "as recorded");
        let three = joined(&lines, Some(3), None);
        assert_eq!(shape(&three), [(logs, 3), (logs, 4), (traces, 2), (logs, 1)]);
        assert_eq!(three[0].times, Some((1_000_000_000, 3_000_000_000)));
        assert_eq!(three[0].request["resourceLogs"].as_array().map(Vec::len), Some(2));
        assert!(crate::to_protobuf(Signal::Logs, &three[0].request).is_ok());
    }

    #[test]
    fn what_is_played_at_a_speed_does_not_wait_for_long() {
        let lines = [log(&[1]), log(&[2]), log(&[100]), span(101)];
        // 200 ms are ten seconds of the recording.
        let shapes = shape(&joined(&lines, Some(1_000), Some(50.0)));
        assert_eq!(shapes, [(Signal::Logs, 2), (Signal::Traces, 1), (Signal::Logs, 1)]);
    }
}
