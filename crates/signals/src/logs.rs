//! Log records folded: every record by template and severity, and those that carry an exception or name a user action.
//!
//! A record with a trace and an exception waits for the trace to close and is counted on the request that its span belongs
//! to, once with the span event that says the same. Any other is counted on the service as a whole.
//!
//! *Cost.* One pass over the message and one hash of its template; nothing is allocated for a template that is known.

use arrow::array::{Array, RecordBatch};
use plimsoll_model::UnixNanos;
use plimsoll_model::log::Level;
use plimsoll_model::template::{VARIABLE, append_template, group, join};
use xxhash_rust::xxh3::xxh3_64;

use crate::columns::{self, Attributes, SchemaError, text_at};
use crate::exception::exception;
use crate::limits::OTHER;
use crate::presence::{Emitted, Run};
use crate::quality::Word;
use crate::sides::{ActionId, LogId};
use crate::spans::nanos;
use crate::state::{Emitter, Resources, SignalState};
use crate::traces::OpenException;

/// Hash that stands for the template `{other}`.
const OTHER_TEMPLATE: u64 = 0;

/// Templates of a service are not put together more often than this, in nanoseconds of the watermark.
const CONSOLIDATE_NS: u64 = 60_000_000_000;
/// Longer templates are not looked for among those with more varying words.
const GENERAL_WORDS_MAX: usize = 24;

fn template_hash(text: &str) -> u64 {
    xxh3_64(text.as_bytes()).max(1)
}

/// Finds a known template that this one is an instance of, with one or two more words varying.
fn generalised(text: &str, known: impl Fn(u64) -> bool) -> Option<(String, u64)> {
    let words: Vec<&str> = text.split(' ').collect();
    if words.len() > GENERAL_WORDS_MAX {
        return None;
    }
    let with = |one: usize, two: usize| {
        let mut general = words.clone();
        general[one] = VARIABLE;
        general[two] = VARIABLE;
        let general = join(&general);
        let hash = template_hash(&general);
        known(hash).then_some((general, hash))
    };
    let singles = (0..words.len()).find_map(|at| with(at, at));
    singles.or_else(|| (0..words.len()).find_map(|one| (one + 1..words.len()).find_map(|two| with(one, two))))
}

/// One record, as far as its template goes.
struct Line<'a> {
    emitter: Emitter,
    level: Level,
    text: &'a str,
    bucket: u64,
    at: u64,
    received: u64,
    trace: Option<u128>,
}

impl SignalState {
    pub(crate) fn fold_logs(&mut self, batch: &RecordBatch) -> Result<(), SchemaError> {
        let received = columns::time(batch, "received_time")?;
        let time = columns::time(batch, "time")?;
        let severity = columns::int32(batch, "severity_number")?;
        let severity_text = columns::text(batch, "severity_text")?;
        let body = columns::text(batch, "body")?;
        let event_name = columns::text(batch, "event_name")?;
        let trace_id = columns::id(batch, "trace_id", 16)?;
        let span_id = columns::id(batch, "span_id", 8)?;
        let attributes = Attributes::of("attributes", columns::map(batch, "attributes")?)?;
        let exceptional = attributes.knows("exception.type");
        let mut resources = Resources::of(batch)?;
        let life = self.registry.limits.trace_life_max.as_nanos() as u64;
        let mut run = Run::new(Emitted::Log);

        for row in 0..batch.num_rows() {
            let received = nanos(received.value(row));
            self.watermark = self.watermark.max(received);
            self.registry.counters.logs += 1;
            let at = nanos(time.value(row));
            let emitter = resources.emitter(self, row, at.min(received), received);
            let bucket = self.bucket_of(emitter.service, at, received);
            run.count(self, emitter, bucket, at.min(received));
            let level = match Level::of_number(severity.value(row)) {
                Level::Unset => text_at(severity_text, row).map_or(Level::Unset, Level::of_text),
                level => level,
            };
            let event = text_at(event_name, row).unwrap_or("");
            let trace = (!trace_id.is_null(row)).then(|| columns::trace_id(trace_id.value(row)));
            let body = text_at(body, row).unwrap_or("");
            let text = if body.is_empty() { event } else { body };
            self.count_line(&Line { emitter, level, text, bucket, at: at.min(received), received, trace });
            if !event.is_empty() && self.registry.limits.actions.iter().any(|action| action == event) {
                self.count_action(emitter.version, event, bucket, level >= Level::Error);
            }

            let exception_type = if exceptional { attributes.get(row, "exception.type") } else { "" };
            if exception_type.is_empty() {
                continue;
            }
            let age = Self::age_of(emitter, at);
            let message = attributes.get(row, "exception.message");
            let (fingerprint, seen) = exception(exception_type, message, attributes.get(row, "exception.stacktrace"));
            self.registry.remember(emitter.service, fingerprint, UnixNanos(at.min(received)));
            let Some(trace) = trace else {
                let operation = self.service_operation(emitter.service);
                self.count_exception(emitter.version, operation, age, bucket, fingerprint, &seen);
                continue;
            };
            let waiting = OpenException {
                span: if span_id.is_null(row) { 0 } else { columns::span_id(span_id.value(row)) },
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
        let mut text = std::mem::take(&mut self.template_at_hand);
        text.clear();
        append_template(line.text, &mut text);
        let template = self.template_id(line, &mut text);
        let id = LogId { version: line.emitter.version, level: line.level as u8, template };
        let limits = self.side_limits();
        match self.sides.logs.cell(&id, line.bucket, limits) {
            Some(cell) => {
                cell.count += 1;
                if let Some(trace) = line.trace {
                    cell.exemplars.offer(trace.to_be_bytes());
                }
                self.sides
                    .templates
                    .entry(template)
                    .or_insert_with(|| if template == OTHER_TEMPLATE { OTHER.into() } else { text.as_str().into() });
            }
            None => {
                self.registry.counters.dropped += 1;
                self.registry.service[line.emitter.service as usize].quality.say(Word::DroppedCells, line.received);
            }
        }
        self.template_at_hand = text;
    }

    /// Returns the number of a template, remembered with its first sight. One that no longer fits is counted under a
    /// template of which it is an instance, where there is one.
    fn template_id(&mut self, line: &Line<'_>, text: &mut String) -> u64 {
        // As exact as stored rows are, so that a restart changes nothing.
        let first = UnixNanos(line.at).bucket().start();
        let (id, max) = (line.emitter.service as usize, self.registry.limits.templates_per_service_max);
        let template = template_hash(text);
        let service = &mut self.registry.service[id];
        if let Some(known) = service.templates.get_mut(&template) {
            *known = first.min(*known);
            return template;
        }
        if service.templates.len() >= max && self.watermark >= service.consolidated_at + CONSOLIDATE_NS {
            service.consolidated_at = self.watermark;
            self.consolidate(id);
        }
        let service = &mut self.registry.service[id];
        if service.consolidated_at > 0
            && let Some((general, known)) = generalised(text, |hash| service.templates.contains_key(&hash))
        {
            *text = general;
            return known;
        }
        if service.templates.len() < max {
            service.templates.insert(template, first);
            return template;
        }
        service.quality.say(Word::CollapsedLogs, line.received);
        self.registry.counters.other_sides += 1;
        self.registry.crowded = true;
        OTHER_TEMPLATE
    }

    /// Puts those templates of a service together that differ only in words which turn out to vary.
    fn consolidate(&mut self, service: usize) {
        let templates = &self.sides.templates;
        let known = &mut self.registry.service[service].templates;
        let mut texts: Vec<(u64, &str)> =
            known.keys().filter_map(|hash| Some((*hash, templates.get(hash)?.as_ref()))).collect();
        texts.sort_unstable_by_key(|(_, text)| *text);
        let groups = group(&texts.iter().map(|(_, text)| *text).collect::<Vec<_>>());
        for ((hash, text), general) in texts.into_iter().zip(&groups) {
            if text != general
                && let Some(first) = known.remove(&hash)
            {
                let earliest = known.entry(template_hash(general)).or_insert(first);
                *earliest = first.min(*earliest);
            }
        }
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
