//! Metric points folded: levels as they are, everything else as what was added since the point before.
//!
//! A cumulative stream counts from its second point on; its first counts whole where the stream began after the first row
//! was folded. A later start, or a value that became less, is a new beginning: the value counts whole, and the instance has
//! started anew; so it has where a count of restarts grew. Points that say "no value" and points older than the one before are passed over.
//!
//! *Cost.* One hash for each value of an attribute, and one look-up of the stream where it is cumulative; where it is not, no hash but
//! of what series are kept apart by. What the series of a point is, is remembered; nothing is allocated for a point whose stream and
//! series are known.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use plimsoll_model::metric::MetricShape;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128_with_seed};

use crate::columns::{SchemaError, Times};
use crate::point_columns::{Head, Points};
use crate::points::Reading;
use crate::presence::{Emitted, Run};
use crate::quality::Word;
use crate::resources::{Emitter, Resources};
use crate::sides::{MetricId, MetricName};
use crate::state::SignalState;
use crate::streams::{Added, Point};

const NO_RECORDED_VALUE: u32 = 1;
/// How often a container restarted in its pod: by convention, and as the Collector names it.
const RESTARTS: [&str; 2] = ["k8s.container.restart.count", "k8s.container.restarts"];
/// Tells what follows restarts from what follows the values of the same stream.
const RESTARTS_SALT: u128 = 0x7265_7374_6172_7473;
/// Longest name or value of an attribute kept, in bytes.
const TEXT_BYTES_MAX: usize = 128;

/// What the name of an attribute is good for.
#[derive(Clone, Copy)]
struct Role {
    seed: u64,
    /// Series are kept apart by it.
    wanted: bool,
}

/// Hashes that name the stream of a point, and its series among all there are.
#[derive(Clone, Copy, Default)]
struct Names {
    stream: u128,
    series: u128,
}

/// What an emitter and the age of its instance add to the names of its points; remembered for the next.
#[derive(Default)]
struct Who {
    of: Option<(u32, u64, u8)>,
    names: Names,
}

impl Who {
    #[inline(always)]
    fn names(&mut self, emitter: Emitter, age: u8) -> Names {
        let of = Some((emitter.version, emitter.instance, age));
        if self.of != of {
            let version = u64::from(emitter.version);
            let who = |more: u64| {
                let one = xxh3_64_with_seed(&version.to_le_bytes(), more);
                u128::from(one) << 64 | u128::from(one.rotate_left(32) ^ more)
            };
            *self = Self { of, names: Names { stream: who(emitter.instance), series: who(u64::from(age)) } };
        }
        self.names
    }
}

impl SignalState {
    pub(crate) fn fold_metrics(&mut self, batch: &RecordBatch) -> Result<(), SchemaError> {
        let mut points = Points::of(batch)?;
        let received = Times::of(batch, "received_time")?;
        let mut resources = Resources::of(batch)?;
        let mut run = Run::new(Emitted::Point);
        let epoch = self.sides.metrics.epoch();
        if self.series_epoch != epoch {
            // Places were given up.
            self.series_epoch = epoch;
            self.known_series.clear();
        }
        let allowed = &self.registry.limits.metric_attributes;
        let roles: Vec<Role> = points
            .attributes
            .roles(|key| Role { seed: xxh3_64(key.as_bytes()), wanted: allowed.iter().any(|known| known == key) });
        let tells_series = roles.iter().any(|role| role.wanted);
        let (mut name, mut counts_restarts) = (0_u128, false);
        let mut who = Who::default();
        let (mut reading, mut spare) = (Reading::default(), Reading::default());
        for row in 0..batch.num_rows() {
            let received = received.get(row);
            self.watermark = self.watermark.max(received);
            self.registry.counters.points += 1;
            let time = points.time.get(row);
            let emitter = resources.emitter(self, row, time.min(received), received);
            let bucket = self.bucket_of(emitter.service, time, received);
            run.count(self, emitter, bucket, time.min(received));
            if let Some(Head { name: text, unit, .. }) = points.turn(row) {
                name = xxh3_128_with_seed(text.as_bytes(), xxh3_64(unit.as_bytes()));
                counts_restarts = RESTARTS.contains(&text);
            }
            if points.flags.or_zero(row) & NO_RECORDED_VALUE != 0 {
                continue;
            }
            let Some((shape, cumulative)) = points.read(row, &mut reading) else { continue };
            let mut names = who.names(emitter, Self::age_of(emitter, time) as u8);
            let of = name.wrapping_add(shape as u128);
            (names.stream, names.series) = (names.stream.wrapping_add(of), names.series.wrapping_add(of));
            let followed = cumulative || counts_restarts;
            if followed || tells_series {
                points.tell_apart(row, &roles, followed, &mut names);
            }
            if counts_restarts {
                self.note_restarts(names.stream, time, reading.value, emitter, received);
            }
            let mut reset = false;
            if cumulative {
                let start = points.start.get(row);
                let (opened, max) = (self.instances.opened(), self.registry.limits.streams_max);
                let point = Point { key: names.stream, start, time, reading: &mut reading };
                match self.streams.advance(point, opened, max, &mut spare) {
                    Added::Since => {}
                    Added::Anew => {
                        reset = true;
                        self.registry.counters.resets += 1;
                        if emitter.started == 0 {
                            self.note_start(emitter, start, received);
                        }
                    }
                    Added::First => continue,
                    Added::LeftOut => {
                        self.registry.counters.points_left_out += 1;
                        continue;
                    }
                }
            }
            let place = match self.known_series.get(names.series) {
                Some(place) => Some(place),
                None => self.find_series(&points, row, &roles, shape, emitter, names.series),
            };
            let limits = self.side_limits();
            match place.and_then(|place| self.sides.metrics.cell_at(place, bucket, limits)) {
                Some(cell) => {
                    cell.take(&reading, shape);
                    cell.resets += u64::from(reset);
                }
                None => self.leave_point_out(emitter, received),
            }
        }
        run.end(self);
        Ok(())
    }

    /// Takes what a container was said to have restarted so far: more than before is a start.
    fn note_restarts(&mut self, stream: u128, time: u64, value: f64, emitter: Emitter, received: u64) {
        let mut counted = Reading { value, ..Reading::default() };
        let point = Point { key: stream ^ RESTARTS_SALT, start: 0, time, reading: &mut counted };
        let (opened, max) = (self.instances.opened(), self.registry.limits.streams_max);
        let added = self.streams.advance(point, opened, max, &mut Reading::default());
        if added == Added::Since && counted.value > 0.0 {
            self.note_start(emitter, time.min(received), received);
        }
    }

    fn leave_point_out(&mut self, emitter: Emitter, received: u64) {
        self.registry.counters.points_left_out += 1;
        self.registry.service[emitter.service as usize].quality.say(Word::MetricsLeftOut, received);
    }

    /// Finds the series of a point, and remembers it; `None` where there is no room for another.
    fn find_series(
        &mut self,
        points: &Points<'_>,
        row: usize,
        roles: &[Role],
        shape: MetricShape,
        emitter: Emitter,
        key: u128,
    ) -> Option<u32> {
        let short = |text: &str| crate::name::truncated(text, TEXT_BYTES_MAX).to_owned();
        let wanted = points.attributes.entries(row).filter(|at| roles[points.attributes.code(*at)].wanted);
        let attributes: BTreeMap<String, String> =
            wanted.map(|at| (short(points.attributes.key(at)), short(points.attributes.value(at)))).collect();
        let Head { name, unit, .. } = points.head();
        let (name, unit) = (short(name), short(unit));
        let what = MetricName { name: name.into(), unit: unit.into(), shape, attributes };
        let (most, limits) = (self.registry.limits.metrics_per_service_max, self.side_limits());
        let known = self.metric_names.get(&what);
        if known.is_none() && self.metric_names.len() >= self.registry.limits.side_series_max {
            self.registry.crowded = true;
            return None;
        }
        let metric = known.unwrap_or_else(|| self.metric_names.intern(what));
        let age = Self::age_of(emitter, points.time.get(row));
        let id = MetricId { version: emitter.version, age, metric };
        if !self.sides.metrics.contains(&id) {
            let service = &mut self.registry.service[emitter.service as usize];
            if service.metrics >= most || !self.sides.metrics.has_room(limits) {
                self.registry.crowded = true;
                return None;
            }
            service.metrics += 1;
        }
        let place = self.sides.metrics.place(&id, limits)?;
        self.known_series.put(key, place);
        Some(place)
    }
}

impl Points<'_> {
    /// Adds a point's attributes to the names: those of its stream all, where it is `followed`, those of its series where series are
    /// kept apart by them. Attributes count in any order.
    fn tell_apart(&self, row: usize, roles: &[Role], followed: bool, names: &mut Names) {
        for at in self.attributes.entries(row) {
            let Role { seed, wanted } = roles[self.attributes.code(at)];
            if !(followed || wanted) {
                continue;
            }
            let pair = xxh3_128_with_seed(self.attributes.value(at).as_bytes(), seed);
            names.stream = names.stream.wrapping_add(pair);
            if wanted {
                names.series = names.series.wrapping_add(pair);
            }
        }
    }
}
