//! Log records folded: every record by template and severity, and those that carry an exception or name a user action.
//!
//! A record with a trace and an exception waits for the trace to close and is counted on the request that its span belongs
//! to, once with the span event that says the same. Any other is counted on the service as a whole.
//!
//! *Cost.* One pass over the message and one hash of its skeleton; a skeleton that was met of late costs nothing more.

use arrow::array::RecordBatch;
use arrow::datatypes::Int32Type;
use plimsoll_model::UnixNanos;
use plimsoll_model::log::Level;
use plimsoll_model::template::skeleton;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::attributes::Attributes;
use crate::columns::{self, Ids, Numbers, SchemaError, Texts, Times};
use crate::exception::exception;
use crate::lines::Line;
use crate::presence::{Emitted, Run};
use crate::quality::Word;
use crate::resources::Resources;
use crate::sides::ActionId;
use crate::state::SignalState;
use crate::traces::OpenException;

impl SignalState {
    pub(crate) fn fold_logs(&mut self, batch: &RecordBatch) -> Result<(), SchemaError> {
        let received = Times::of(batch, "received_time")?;
        let time = Times::of(batch, "time")?;
        let severity = Numbers::of::<Int32Type>(batch, "severity_number")?;
        let severity_text = Texts::of(batch, "severity_text")?;
        let body = Texts::of(batch, "body")?;
        let event_name = Texts::of(batch, "event_name")?;
        let trace_id = Ids::<16>::of(batch, "trace_id")?;
        let span_id = Ids::<8>::of(batch, "span_id")?;
        let attributes = Attributes::of("attributes", columns::map(batch, "attributes")?)?;
        let parts = exceptional_parts(&attributes);
        let mut resources = Resources::of(batch)?;
        self.lines.keep_up_with(self.sides.logs.epoch());
        let life = self.registry.limits.trace_life_max.as_nanos() as u64;
        let mut run = Run::new(Emitted::Log);

        for row in 0..batch.num_rows() {
            let received = received.get(row);
            self.watermark = self.watermark.max(received);
            self.registry.counters.logs += 1;
            let at = time.get(row);
            let emitter = resources.emitter(self, row, at.min(received), received);
            let bucket = self.bucket_of(emitter.service, at, received);
            run.count(self, emitter, bucket, at.min(received));
            let level = match Level::of_number(severity.or_zero(row)) {
                Level::Unset => Level::of_text(severity_text.get(row)),
                level => level,
            };
            let event = event_name.get(row);
            let trace = trace_id.find(row);
            let body = body.get(row);
            let text = if body.is_empty() { event } else { body };
            self.count_line(&Line { emitter, level, text, bucket, at: at.min(received), received, trace });
            if !event.is_empty() && self.registry.limits.actions.iter().any(|action| action == event) {
                self.count_action(emitter.version, event, bucket, level >= Level::Error);
            }

            let Some(parts) = &parts else { continue };
            let [exception_type, message, stack] = exceptional(&attributes, parts, row);
            if exception_type.is_empty() {
                continue;
            }
            let age = Self::age_of(emitter, at);
            let (fingerprint, seen) = exception(exception_type, message, stack);
            let version = self.registry.version_name(emitter.version);
            self.registry.remember(emitter.service, &version, fingerprint, UnixNanos(at.min(received)));
            let Some(trace) = trace else {
                let operation = self.service_operation(emitter.service);
                self.count_exception(emitter.version, operation, age, bucket, fingerprint, &seen);
                continue;
            };
            let waiting = OpenException {
                span: span_id.get(row),
                version: emitter.version,
                age,
                bucket,
                fingerprint,
                seen,
                counted: false,
            };
            self.traces.push_exception(trace, received, life, waiting);
        }
        run.end(self);
        Ok(())
    }

    fn count_line(&mut self, line: &Line<'_>) {
        let mut bones = std::mem::take(&mut self.skeleton_at_hand);
        skeleton(line.text, &mut bones);
        let who = u64::from(line.emitter.version) << 8 | u64::from(line.level as u8);
        let key = xxh3_128_with_seed(&bones, who);
        let limits = self.side_limits();
        let place = self.lines.get(key, line.at).or_else(|| self.find_line(key, line, &bones));
        match place.and_then(|place| self.sides.logs.cell_at(place, line.bucket, limits)) {
            Some(cell) => {
                cell.count += 1;
                if let Some(trace) = line.trace {
                    cell.exemplars.offer(trace.to_be_bytes());
                }
            }
            None => {
                self.registry.counters.dropped += 1;
                self.registry.service[line.emitter.service as usize].quality.say(Word::DroppedCells, line.received);
            }
        }
        self.skeleton_at_hand = bones;
    }

    pub(crate) fn count_action(&mut self, version: u32, name: &str, bucket: u64, failed: bool) {
        let action = self.registry.name_id(name);
        let limits = self.side_limits();
        if let Some(cell) = self.sides.actions.cell(&ActionId { version, action }, bucket, limits) {
            cell.count += 1;
            cell.failed += u64::from(failed);
        }
    }
}

/// Which part of an exception each name of an attribute is: 1 its type, 2 its message, 3 its stack; `None` where no record
/// of the batch can have one.
fn exceptional_parts(attributes: &Attributes<'_>) -> Option<Vec<u8>> {
    let parts = attributes.roles(|name| match name {
        "exception.type" => 1,
        "exception.message" => 2,
        "exception.stacktrace" => 3,
        _ => 0_u8,
    });
    parts.contains(&1).then_some(parts)
}

/// Returns type, message and stack of a record's exception; what is absent is empty.
fn exceptional<'a>(attributes: &Attributes<'a>, parts: &[u8], row: usize) -> [&'a str; 3] {
    let mut found = [""; 3];
    for at in attributes.entries(row).rev() {
        // The first of several counts.
        if let Some(part) = usize::from(parts[attributes.code(at)]).checked_sub(1) {
            found[part] = attributes.value(at);
        }
    }
    found
}
