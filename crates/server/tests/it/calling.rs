//! Whom requests call and what users get out of them, as the recording of every sort of finding holds it.

use serde_json::json;

use crate::queries::{Emitted, Recording, STEP_S, is_since};

/// The event that is a user action.
pub(crate) const ACTION: &str = "checkout_completed";

impl Recording {
    /// Requests after which users are done, but for nine in ten of the candidate's, which names the event otherwise.
    pub(crate) fn complete(&mut self, from: u64) {
        for version in ["1", "2"] {
            let mut emitted = Emitted::default();
            for second in (from..from + STEP_S).filter(|second| version == "1" || is_since(*second)) {
                let mut span = self.span(second, "POST /checkout", false);
                let name = if version == "2" && second % 10 != 0 { "checkout_done" } else { ACTION };
                let at = span["endTimeUnixNano"].clone();
                span["events"] = json!([{ "name": name, "timeUnixNano": at }]);
                emitted.spans.push(span);
            }
            self.emit("checkout", &[("service.version", version)], emitted);
        }
    }

    /// Requests that ask two services once each; the candidate's ask one of them four times, and the other hardly ever.
    pub(crate) fn ask(&mut self, from: u64) {
        let mut asked = [Emitted::default(), Emitted::default()];
        for version in ["1", "2"] {
            let mut emitted = Emitted::default();
            for second in (from..from + STEP_S).filter(|second| version == "1" || is_since(*second)) {
                let entry = self.span(second, "GET /basket", false);
                let calls = if version == "2" { [4, u64::from(second % 10 == 0)] } else { [1, 1] };
                for ((callee, calls), name) in asked.iter_mut().zip(calls).zip(["GET /stock", "GET /offers"]) {
                    for _ in 0..calls {
                        let mut span = self.span(second, name, false);
                        span["traceId"] = entry["traceId"].clone();
                        span["parentSpanId"] = entry["spanId"].clone();
                        for time in ["startTimeUnixNano", "endTimeUnixNano"] {
                            span[time] = entry[time].clone();
                        }
                        callee.spans.push(span);
                    }
                }
                emitted.spans.push(entry);
            }
            self.emit("basket", &[("service.version", version)], emitted);
        }
        for (callee, service) in asked.into_iter().zip(["stock", "offers"]) {
            self.emit(service, &[("service.version", "3")], callee);
        }
    }
}
