//! Spans folded: requests counted at once, everything else when their trace closes.
//!
//! *Cost.* No allocation per span: a resource is looked up once a batch, a name is hashed, a cell is found by index. What is the
//! same for all spans of a run is added once a run ([`SpanRun`]).

use arrow::array::RecordBatch;
use arrow::datatypes::{Int32Type, ToByteSlice, UInt32Type};
use plimsoll_model::UnixNanos;
use plimsoll_model::drill::Outcome;
use plimsoll_model::signal::{AgeClass, ExceptionCount, Fingerprint, OperationKind, WEIGHT_UNIT};

use crate::attributes::Attributes;
use crate::columns::{self, Ids, Numbers, SchemaError, Texts, Times, same_text};
use crate::draws::number_of;
use crate::events::{Events, flag_part};
use crate::fetch::Ahead;
use crate::presence::{Emitted, Run};
use crate::quality::Word;
use crate::registry::{NO_NAME, SeriesKey};
use crate::resources::{Emitter, Resources};
use crate::sides::ArmId;
use crate::span_runs::{Moment, SpanRun, Stretch};
use crate::state::SignalState;
use crate::traces::{OpenException, OpenSpan, Role};
use crate::unanswered::Calls;
use crate::weight::weight_of;

const KIND_SERVER: i32 = 2;
const KIND_CLIENT: i32 = 3;
const KIND_PRODUCER: i32 = 4;
const KIND_CONSUMER: i32 = 5;
const STATUS_OK: i32 = 1;
const STATUS_ERROR: i32 = 2;
/// The sender says whether the parent is remote, and it is not.
const PARENT_KNOWN_LOCAL: (u32, u32) = (0x300, 0x100);

/// What the name of an attribute is good for.
#[derive(Clone, Copy)]
enum AttributeRole {
    None,
    /// Its values are counted by outcome; the number of the name.
    Drill(u32),
    /// Says how a feature flag was evaluated.
    Flag,
}

impl SignalState {
    pub(crate) fn fold_spans(&mut self, batch: &RecordBatch) -> Result<(), SchemaError> {
        let received = Times::of(batch, "received_time")?;
        let trace_id = Ids::<16>::of(batch, "trace_id")?;
        let span_id = Ids::<8>::of(batch, "span_id")?;
        let parent = Ids::<8>::of(batch, "parent_span_id")?;
        let flags = Numbers::of::<UInt32Type>(batch, "flags")?;
        let name = Texts::of(batch, "name")?;
        let kind = Numbers::of::<Int32Type>(batch, "kind")?;
        let start = Times::of(batch, "start_time")?;
        let end = Times::of(batch, "end_time")?;
        let status = Numbers::of::<Int32Type>(batch, "status_code")?;
        let http_status = Numbers::of::<Int32Type>(batch, "http_response_status_code")?;
        let method = Texts::of(batch, "http_request_method")?;
        let route = Texts::of(batch, "http_route")?;
        let error_type = Texts::of(batch, "error_type")?;
        let server_address = Texts::of(batch, "server_address")?;
        let trace_state = Texts::of(batch, "trace_state")?;
        let calls = Calls::of(batch)?;
        let attributes = Attributes::of("attributes", columns::map(batch, "attributes")?)?;
        let events = Events::of(columns::list(batch, "events")?)?;
        let roles: Vec<AttributeRole> = attributes.roles(|key| match self.drill_keys.find(key) {
            Some(number) => AttributeRole::Drill(number),
            None if key.starts_with("feature_flag.") => AttributeRole::Flag,
            None => AttributeRole::None,
        });
        let mut resources = Resources::of(batch)?;
        let limits = &self.registry.limits;
        let (per_trace_max, life) = (limits.spans_per_trace_max, limits.trace_life_max.as_nanos() as u64);
        let entries_max = limits.entries_per_cell_max;
        let looked_for = roles.iter().any(|role| !matches!(role, AttributeRole::None));
        let (stated, eventful) = (!trace_state.all_empty(), !events.none());
        let rows = batch.num_rows();
        let (received, start, end) = (received.over(rows), start.over(rows), end.over(rows));
        let keys = &resources.keys()[..rows];
        let (trace_id, span_id, parent) = (trace_id.over(rows), span_id.over(rows), parent.over(rows));
        let (kinds, states, https) = (kind.or_zeros(rows), status.or_zeros(rows), http_status.or_zeros(rows));
        let (kinds, states, https) = (&kinds[..rows], &states[..rows], &https[..rows]);
        let mut run = Run::new(Emitted::Span);
        let mut seen = SpanRun::default();
        let mut moment = Moment::default();
        let mut stretch = Stretch::NONE;
        let (mut emitter, mut bucket) = (Emitter::NONE, 0);
        let mut weighed: (&str, u64) = ("", WEIGHT_UNIT);
        let mut values = std::mem::take(&mut self.values_at_hand);
        let times = [received, start, end].map(Times::bytes);
        let ids = [trace_id.bytes_of_all(), span_id.bytes_of_all(), parent.bytes_of_all()];
        let numbers = [keys.to_byte_slice(), kinds.to_byte_slice(), states.to_byte_slice(), https.to_byte_slice()];
        let texts = [name, method, route].map(Texts::bytes);
        let ahead = Ahead::of(times.into_iter().chain(ids).chain(numbers).chain(texts.into_iter().flatten()), rows);
        self.registry.counters.spans += rows as u64;

        for (row, key) in keys.iter().enumerate() {
            let (received, start, end) = (received.get(row), start.get(row), end.get(row));
            if let Some(near) = ahead.at(row) {
                self.traces.fetch(near.map(|row| trace_id.get(row)));
            }
            if !stretch.takes(*key, received, end) {
                stretch.end(&mut run, &mut seen);
                if received != moment.received {
                    moment = Moment::of(received);
                    self.watermark = self.watermark.max(received);
                }
                emitter = resources.emitter(self, row, start.min(received), received);
                bucket = match moment.bucket(end) {
                    Some(bucket) => bucket,
                    None => {
                        let bucket = self.bucket_of(emitter.service, end, received);
                        moment.learn(bucket);
                        bucket
                    }
                };
                run.count(self, emitter, bucket, end.min(received));
                if (seen.version, seen.minute) != (emitter.version, moment.minute) {
                    seen.end(self);
                    seen = SpanRun::of(emitter, moment.minute);
                }
                seen.count(1, end, received);
                stretch = Stretch::after(resources.last_key(), &moment);
            }
            let age = Self::age_of(emitter, start);
            if end < start {
                self.registry.counters.negative_durations += 1;
                self.registry.service[emitter.service as usize].quality.say(Word::NegativeDurations, received);
            }
            if stated {
                let state = trace_state.get(row);
                if !same_text(state, weighed.0) {
                    weighed = (state, weight_of(state));
                }
            }
            if weighed.1 != WEIGHT_UNIT {
                self.registry.service[emitter.service as usize].quality.say(Word::SampledSpans, received);
            }
            let parent = parent.get(row);
            let role = match kinds[row] {
                KIND_SERVER => Role::Server,
                KIND_CONSUMER => Role::Consumer,
                KIND_CLIENT => Role::Client,
                KIND_PRODUCER => Role::Other,
                _ if flags.or_zero(row) & PARENT_KNOWN_LOCAL.0 == PARENT_KNOWN_LOCAL.1 && parent != 0 => Role::Other,
                _ if self.registry.service[emitter.service as usize].serves => Role::Other,
                _ => Role::MayRoot,
            };
            let http = https[row];
            let failed = match states[row] {
                STATUS_ERROR => true,
                STATUS_OK => false,
                _ => http >= 500,
            };
            let trace = trace_id.get(row);
            let id = span_id.get(row);

            let serving = match role {
                Role::Server => Some(OperationKind::Server),
                Role::Consumer => Some(OperationKind::Consumer),
                _ => None,
            };
            let what = if serving.is_some() || role == Role::MayRoot {
                self.registry.raw_name(name.get(row), method.get(row), route.get(row))
            } else if failed && role == Role::Client {
                let target = calls.unanswered(&attributes, row, http);
                if target.is_empty() { NO_NAME } else { self.registry.class_id(target) }
            } else {
                NO_NAME
            };
            let class = if failed && (serving.is_some() || role == Role::MayRoot) {
                self.error_class(error_type.get(row), http, &events, row)
            } else {
                NO_NAME
            };

            let mut series = OpenSpan::NONE;
            let what = if let Some(kind) = serving {
                let service = &mut self.registry.service[emitter.service as usize];
                service.serves = true;
                let operation = self.registry.operation_id(emitter.service, kind, what);
                let service = &mut self.registry.service[emitter.service as usize];
                if std::mem::take(&mut service.collapsed) {
                    service.quality.say(Word::CollapsedOperations, received);
                }
                values.clear();
                values.extend_from_slice(resources.values(emitter));
                let columns =
                    [(self.drill_columns[1], error_type.get(row)), (self.drill_columns[2], server_address.get(row))];
                if http > 0 {
                    values.push((self.drill_columns[0], self.registry.status_value(http)));
                }
                for (attribute, text) in columns {
                    if !text.is_empty() {
                        values.push((attribute, self.registry.value_id(text)));
                    }
                }
                let mut arm: Option<(&str, &str)> = None;
                let looked_at = if looked_for { attributes.entries(row) } else { 0..0 };
                for at in looked_at {
                    match roles[attributes.code(at)] {
                        AttributeRole::None => {}
                        AttributeRole::Drill(attribute) => {
                            values.push((attribute, self.registry.value_id(attributes.value(at))));
                        }
                        AttributeRole::Flag => flag_part(&mut arm, attributes.key(at), attributes.value(at)),
                    }
                }
                series = self.registry.series_id(SeriesKey { version: emitter.version, operation, age });
                let request = RequestSpan {
                    version: emitter.version,
                    series,
                    bucket,
                    start,
                    end,
                    trace,
                    span: id,
                    class: failed.then_some(class),
                    weight: weighed.1,
                    values: &values,
                };
                self.count_request(&request);
                if let Some((flag, variant)) = arm {
                    self.count_arm(&request, emitter.service, operation, age, flag, variant);
                }
                if eventful {
                    for at in events.all(row) {
                        if let Some((flag, variant)) = events.flag(at) {
                            self.count_arm(&request, emitter.service, operation, age, flag, variant);
                        }
                    }
                }
                operation
            } else {
                what
            };
            match self.traces.room(trace, received, life, per_trace_max) {
                Some((room, before)) => {
                    *room = OpenSpan {
                        id,
                        parent,
                        start,
                        end,
                        version: emitter.version,
                        what,
                        series,
                        bucket: bucket as u32,
                        class,
                        weight: weighed.1 as u32,
                        before,
                        role,
                        age,
                        failed,
                    };
                }
                None => self.registry.counters.spans_unassembled += 1,
            }

            if !eventful || events.is_empty(row) {
                continue;
            }
            for at in events.all(row) {
                let name = events.name(at);
                if self.registry.limits.actions.iter().any(|action| action == name) {
                    self.count_action(emitter.version, name, bucket, failed);
                }
            }
            let mut counted: Vec<Fingerprint> = Vec::new();
            for (fingerprint, seen) in events.exceptions(row) {
                if counted.contains(&fingerprint) || counted.len() >= entries_max {
                    continue;
                }
                counted.push(fingerprint);
                let version = self.registry.version_name(emitter.version);
                self.registry.remember(emitter.service, &version, fingerprint, UnixNanos(end.min(received)));
                if serving.is_some() {
                    self.count_exception(emitter.version, what, age, bucket, fingerprint, &seen);
                }
                let waiting = OpenException {
                    span: id,
                    version: emitter.version,
                    age,
                    bucket,
                    fingerprint,
                    seen,
                    counted: serving.is_some(),
                };
                self.traces.push_exception(trace, received, life, waiting);
            }
        }
        stretch.end(&mut run, &mut seen);
        run.end(self);
        seen.end(self);
        values.clear();
        self.values_at_hand = values;
        Ok(())
    }

    /// Counts a request once more, under the variant of a feature flag.
    fn count_arm(
        &mut self,
        request: &RequestSpan<'_>,
        service: u32,
        operation: u32,
        age: AgeClass,
        flag: &str,
        variant: &str,
    ) {
        let Some((flag, variant)) = self.registry.arm(service, flag, variant) else { return };
        let RequestSpan { version, bucket, .. } = *request;
        let (max, other) = (self.registry.limits.entries_per_cell_max, crate::registry::OTHER_NAME);
        let limits = self.side_limits();
        if let Some(cell) = self.sides.arms.cell(&ArmId { version, operation, age, flag, variant }, bucket, limits) {
            cell.record_request(request.end.saturating_sub(request.start), request.trace, request.weight);
            if let Some(class) = request.class {
                cell.record_error(class, request.trace, request.weight, max, other);
            }
        }
    }

    fn error_class(&mut self, error_type: &str, http: i32, events: &Events<'_>, row: usize) -> u32 {
        if !error_type.is_empty() {
            return self.registry.class_id(error_type);
        }
        if http > 0 {
            return self.registry.class_id(&http.to_string());
        }
        match events.exception_type(row) {
            Some(exception_type) if !exception_type.is_empty() => self.registry.class_id(exception_type),
            _ => self.registry.class_id("error"),
        }
    }

    pub(crate) fn count_request(&mut self, request: &RequestSpan<'_>) {
        let (max, other) = (self.registry.limits.entries_per_cell_max, crate::registry::OTHER_NAME);
        let [status, class, _] = self.drill_columns;
        let Some(cell) = self.cell_of(request.series, request.bucket) else { return };
        let weight = request.weight;
        let log_latency_sum = cell.record_request(request.end.saturating_sub(request.start), request.trace, weight);
        let mut overflowed = match request.class {
            Some(class) => cell.record_error(class, request.trace, weight, max, other),
            None => {
                cell.good.offer(request.trace.to_be_bytes());
                false
            }
        };
        let outcome = Outcome { requests: 1, errors: u64::from(request.class.is_some()), log_latency_sum };
        for (attribute, value) in request.values {
            overflowed |= cell.values.record(*attribute, *value, &outcome, other);
        }
        if !request.values.is_empty() {
            // What says that a request failed comes with every failure.
            let told = request.values.iter().filter(|(attribute, _)| *attribute != status && *attribute != class);
            cell.draw(number_of(request.trace, request.span), request.class.is_some(), told.copied());
        }
        let counters = &mut self.registry.counters;
        counters.requests += 1;
        counters.other += u64::from(overflowed);
        self.registry.version[request.version as usize].requests += 1;
    }

    pub(crate) fn count_exception(
        &mut self,
        version: u32,
        operation: u32,
        age: AgeClass,
        bucket: u64,
        fingerprint: Fingerprint,
        seen: &ExceptionCount,
    ) {
        let max = self.registry.limits.entries_per_cell_max;
        let Some(cell) = self.cell(version, operation, age, bucket) else { return };
        let overflowed = cell.record_exception(fingerprint, seen, max);
        self.registry.counters.exceptions += 1;
        self.registry.counters.other += u64::from(overflowed);
    }
}

/// One span counted as a request.
#[derive(Clone, Copy)]
pub(crate) struct RequestSpan<'a> {
    pub(crate) version: u32,
    pub(crate) series: u32,
    pub(crate) bucket: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) trace: u128,
    pub(crate) span: u64,
    /// Set where it failed.
    pub(crate) class: Option<u32>,
    /// How many requests it stands for, in units of 1/[`WEIGHT_UNIT`].
    pub(crate) weight: u64,
    /// Numbers of attributes and their values.
    pub(crate) values: &'a [(u32, u32)],
}
