//! Who and what the cells are about, as small numbers.
//!
//! *Invariants.* Every table is bounded by [`SignalLimits`]; what comes when a table is full is `{other}`, counted.
//!
//! *Cost.* A known span name costs one hash and one look-up, and nothing is allocated.

use std::borrow::Cow;
use std::sync::Arc;

use plimsoll_model::signal::{AgeClass, OperationKey, OperationKind, Party};
use plimsoll_model::{ServiceKey, UnixNanos};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128, xxh3_128_with_seed};

use crate::cell::Recorded;
use crate::firsts::Firsts;
use crate::intern::{FixedMap, Interner, Recent, RecentHashes};
use crate::limits::{OTHER, SignalCounters, SignalLimits};
use crate::name::{operation_name, truncated};

/// Longest version, error class or part of a service's identity kept, in bytes.
const TEXT_BYTES_MAX: usize = 128;
/// Longest value of an attribute kept, in bytes.
const VALUE_BYTES_MAX: usize = 96;
/// Raw span names whose operation is remembered; all are forgotten when there are more.
const RAW_NAMES_MAX: usize = 32_768;
/// Statuses whose value is remembered by number.
const STATUSES_MAX: usize = 64;
/// Feature flags of one service.
const FLAGS_MAX: usize = 32;
/// Variants of one feature flag.
const VARIANTS_MAX: usize = 8;

/// Number of the name, and of the value, `{other}`.
pub(crate) const OTHER_NAME: u32 = 0;
/// Number of the empty name.
pub(crate) const NO_NAME: u32 = 1;

/// What is known of a service beside its cells.
#[derive(Default)]
pub(crate) struct Service {
    pub(crate) operations: usize,
    /// It has shown a server or consumer span: its internal spans are no operations.
    pub(crate) serves: bool,
    /// Exceptions, with when each version first threw them.
    pub(crate) fingerprints: FixedMap<u64, Firsts>,
    /// Log templates by hash, with when each version first logged them.
    pub(crate) templates: FixedMap<u64, Firsts>,
    /// The same by sums of their words, once they were made fewer.
    pub(crate) by_sum: crate::lines::BySum,
    /// When its templates were last made fewer, in nanoseconds of the watermark.
    pub(crate) consolidated_at: u64,
    /// Variants of feature flags seen, by numbers of names.
    pub(crate) arms: Vec<(u32, Vec<u32>)>,
    /// An operation of it was counted as `{other}` since this was last looked at.
    pub(crate) collapsed: bool,
    /// Numbers of its series of operations, all versions.
    pub(crate) series: Vec<u32>,
    /// Series of metrics.
    pub(crate) metrics: usize,
    /// Words about its telemetry, each with when it last applied.
    pub(crate) quality: crate::quality::Quality,
    pub(crate) behind: crate::behind::Behind,
    /// From when on open deploys need it.
    pub(crate) need: crate::need::Need,
    /// Cells of buckets before this one had to go for lack of room.
    pub(crate) forgotten: u64,
}

/// What is known of a version beside its cells.
#[derive(Default, Clone)]
pub(crate) struct Version {
    pub(crate) first_seen: UnixNanos,
    pub(crate) last_seen: UnixNanos,
    pub(crate) requests: u64,
    pub(crate) spans: u64,
    pub(crate) behind: crate::behind::Behind,
}

/// A service's version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct VersionKey {
    pub(crate) service: u32,
    pub(crate) version: Arc<str>,
}

/// A service's operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OperationId {
    pub(crate) service: u32,
    pub(crate) kind: OperationKind,
    pub(crate) name: u32,
}

/// What a series of cells is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SeriesKey {
    pub(crate) version: u32,
    pub(crate) operation: u32,
    pub(crate) age: AgeClass,
}

/// A party, by numbers of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PartyKey {
    namespace: u32,
    service: u32,
    version: u32,
    operation: u32,
}

impl PartyKey {
    /// Namespace, service, version and operation.
    pub(crate) fn names(self) -> [u32; 4] {
        [self.namespace, self.service, self.version, self.operation]
    }
}

pub(crate) struct Registry {
    pub(crate) limits: SignalLimits,
    pub(crate) counters: SignalCounters,
    pub(crate) services: Interner<ServiceKey>,
    pub(crate) service: Vec<Service>,
    pub(crate) versions: Interner<VersionKey>,
    pub(crate) version: Vec<Version>,
    pub(crate) names: Interner<Arc<str>>,
    pub(crate) operations: Interner<OperationId>,
    pub(crate) series: Interner<SeriesKey>,
    pub(crate) parties: Interner<PartyKey>,
    /// The last bucket in which a request of a service called a party or blamed it.
    pub(crate) edges: FixedMap<(u32, u32), u64>,
    /// Values of attributes: apart from names, so that many of them crowd out no operation.
    pub(crate) values: Interner<Arc<str>>,
    raw_names: FixedMap<u128, u32>,
    recent_names: RecentHashes,
    recent_values: RecentHashes,
    recent_operations: Recent<OperationId>,
    recent_series: Recent<SeriesKey>,
    /// By version and operation.
    recent_parties: Recent<(u32, u32)>,
    statuses: Vec<(i32, u32)>,
    /// The party that stands for all others.
    pub(crate) other_party: u32,
    /// Set when a table was full: what is no longer used may be freed.
    pub(crate) crowded: bool,
}

impl Registry {
    pub(crate) fn new(limits: SignalLimits) -> Self {
        let mut names = Interner::new();
        names.intern(OTHER.into());
        names.intern("".into());
        let mut values = Interner::new();
        values.intern(OTHER.into());
        let mut parties = Interner::new();
        let other = PartyKey { namespace: NO_NAME, service: OTHER_NAME, version: NO_NAME, operation: NO_NAME };
        let other_party = parties.intern(other);
        Self {
            limits,
            counters: SignalCounters::default(),
            services: Interner::new(),
            service: Vec::new(),
            versions: Interner::new(),
            version: Vec::new(),
            names,
            operations: Interner::new(),
            series: Interner::new(),
            parties,
            edges: FixedMap::default(),
            values,
            raw_names: FixedMap::default(),
            recent_names: RecentHashes::new(),
            recent_values: RecentHashes::new(),
            recent_operations: Recent::new(),
            recent_series: Recent::new(),
            recent_parties: Recent::new(),
            statuses: Vec::new(),
            other_party,
            crowded: false,
        }
    }

    fn overflow(&mut self) {
        self.counters.other += 1;
        self.crowded = true;
    }

    pub(crate) fn service_id(&mut self, key: &ServiceKey) -> u32 {
        if let Some(id) = self.services.get(key) {
            return id;
        }
        let short = |text: &str| truncated(text, TEXT_BYTES_MAX).to_owned();
        let mut key = ServiceKey {
            environment: short(&key.environment),
            namespace: short(&key.namespace),
            service: short(&key.service),
        };
        if self.services.len() >= self.limits.services_max && self.services.get(&key).is_none() {
            self.overflow();
            key = ServiceKey::new("", OTHER);
        }
        let id = self.services.intern(key);
        self.service.resize_with(self.services.span(), Service::default);
        id
    }

    /// Returns the number of a version, and whether it is new.
    pub(crate) fn version_id(&mut self, key: &ServiceKey, version: &str) -> (u32, bool) {
        let service = self.service_id(key);
        let mut key = VersionKey { service, version: truncated(version, TEXT_BYTES_MAX).into() };
        if let Some(id) = self.versions.get(&key) {
            return (id, false);
        }
        if self.versions.len() >= self.limits.versions_max {
            self.overflow();
            key.version = OTHER.into();
            if let Some(id) = self.versions.get(&key) {
                return (id, false);
            }
        }
        let id = self.versions.intern(key);
        self.version.resize_with(self.versions.span(), Version::default);
        self.version[id as usize] = Version::default();
        (id, true)
    }

    pub(crate) fn name_id(&mut self, name: &str) -> u32 {
        let name = truncated(name, crate::name::NAME_BYTES_MAX);
        if let Some(id) = self.names.get(name) {
            return id;
        }
        if self.names.len() >= self.limits.names_max {
            self.overflow();
            return OTHER_NAME;
        }
        self.names.intern(name.into())
    }

    /// Returns the number of an attribute's value.
    pub(crate) fn value_id(&mut self, value: &str) -> u32 {
        let value = truncated(value, VALUE_BYTES_MAX);
        let hash = xxh3_128(value.as_bytes());
        if let Some(id) = self.recent_values.get(hash) {
            return id;
        }
        let id = match self.values.get(value) {
            Some(id) => id,
            None if self.values.len() >= self.limits.values_max => {
                self.overflow();
                return OTHER_NAME;
            }
            None => self.values.intern(value.into()),
        };
        self.recent_values.put(hash, id);
        id
    }

    /// Returns the number of a status as a value; numbers are spelt once.
    pub(crate) fn status_value(&mut self, status: i32) -> u32 {
        if let Some((_, id)) = self.statuses.iter().find(|(known, _)| *known == status) {
            return *id;
        }
        let id = self.value_id(&status.to_string());
        if self.statuses.len() < STATUSES_MAX {
            self.statuses.push((status, id));
        }
        id
    }

    /// Returns the numbers of a flag and its variant; `None` where there is no such flag or no room for it.
    pub(crate) fn arm(&mut self, service: u32, flag: &str, variant: &str) -> Option<(u32, u32)> {
        if flag.is_empty() || variant.is_empty() {
            return None;
        }
        let (flag, variant) = (self.class_id(flag), self.class_id(variant));
        let arms = &mut self.service[service as usize].arms;
        let at = match arms.iter().position(|(known, _)| *known == flag) {
            Some(at) => at,
            None if arms.len() >= FLAGS_MAX => {
                self.counters.other_sides += 1;
                return None;
            }
            None => {
                arms.push((flag, Vec::new()));
                arms.len() - 1
            }
        };
        let variants = &mut arms[at].1;
        if variants.contains(&variant) {
            return Some((flag, variant));
        }
        if variants.len() >= VARIANTS_MAX {
            self.counters.other_sides += 1;
            return Some((flag, OTHER_NAME));
        }
        variants.push(variant);
        Some((flag, variant))
    }

    pub(crate) fn class_id(&mut self, class: &str) -> u32 {
        self.name_id(truncated(class, TEXT_BYTES_MAX))
    }

    /// Returns the number of the normalised name of a span; method and route may be empty.
    pub(crate) fn raw_name(&mut self, name: &str, method: &str, route: &str) -> u32 {
        let seed = match route {
            "" => 0,
            route => xxh3_64_with_seed(route.as_bytes(), xxh3_64(method.as_bytes())),
        };
        let hash = xxh3_128_with_seed(name.as_bytes(), seed);
        self.recent_names.get(hash).unwrap_or_else(|| self.find_raw_name(hash, name, method, route))
    }

    #[inline(never)]
    fn find_raw_name(&mut self, hash: u128, name: &str, method: &str, route: &str) -> u32 {
        let id = match self.raw_names.get(&hash) {
            Some(id) => *id,
            None => {
                let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
                let name: Cow<'_, str> = operation_name(name, some(method), some(route));
                let id = self.name_id(&name);
                if self.raw_names.len() >= RAW_NAMES_MAX {
                    self.raw_names.clear();
                }
                self.raw_names.insert(hash, id);
                id
            }
        };
        self.recent_names.put(hash, id);
        id
    }

    #[inline(always)]
    pub(crate) fn operation_id(&mut self, service: u32, kind: OperationKind, name: u32) -> u32 {
        let key = OperationId { service, kind, name };
        let at = service.wrapping_mul(31).wrapping_add(name).wrapping_mul(4).wrapping_add(kind as u32);
        self.recent_operations.get(at, key).unwrap_or_else(|| self.find_operation(at, key))
    }

    #[inline(never)]
    fn find_operation(&mut self, at: u32, mut key: OperationId) -> u32 {
        let OperationId { service, name, .. } = key;
        if let Some(id) = self.operations.get(&key) {
            self.recent_operations.put(at, key, id);
            return id;
        }
        // The service-level operation and `{other}` are there for whatever finds no other place.
        if name > NO_NAME && self.service[service as usize].operations >= self.limits.operations_per_service_max {
            self.overflow();
            self.service[service as usize].collapsed = true;
            key.name = OTHER_NAME;
            if let Some(id) = self.operations.get(&key) {
                return id;
            }
        }
        if key.name > NO_NAME {
            self.service[service as usize].operations += 1;
        }
        self.operations.intern(key)
    }

    #[inline(always)]
    pub(crate) fn series_id(&mut self, key: SeriesKey) -> u32 {
        let at = key.version.wrapping_mul(31).wrapping_add(key.operation).wrapping_mul(4).wrapping_add(key.age as u32);
        self.recent_series.get(at, key).unwrap_or_else(|| self.find_series(at, key))
    }

    #[inline(never)]
    fn find_series(&mut self, at: u32, mut key: SeriesKey) -> u32 {
        if let Some(id) = self.series.get(&key) {
            self.recent_series.put(at, key, id);
            return id;
        }
        if self.series.len() >= self.limits.series_max {
            self.overflow();
            let OperationId { service, kind, .. } = *self.operations.key(key.operation);
            key.operation = self.operation_id(service, kind, OTHER_NAME);
            if let Some(id) = self.series.get(&key) {
                return id;
            }
        }
        let id = self.series.intern(key);
        let service = self.versions.key(key.version).service;
        self.service[service as usize].series.push(id);
        id
    }

    /// Lists anew which series each service has, after numbers were freed.
    pub(crate) fn list_series(&mut self) {
        self.service.iter_mut().for_each(|service| service.series.clear());
        for (id, key) in self.series.iter() {
            let service = self.versions.key(key.version).service;
            self.service[service as usize].series.push(id);
        }
    }

    /// Takes note that there was no room for a cell of a series.
    #[cold]
    pub(crate) fn drop_cell(&mut self, series: u32, now: u64) {
        self.counters.dropped += 1;
        let service = self.operations.key(self.series.key(series).operation).service;
        self.service[service as usize].quality.say(crate::quality::Word::DroppedCells, now);
    }

    /// Remembers who called or blamed whom, where a cell says so for the first time.
    #[inline]
    pub(crate) fn note_edge(&mut self, version: u32, party: u32, bucket: u64, recorded: Recorded) {
        match recorded {
            Recorded::Again => {}
            Recorded::Other => self.counters.other += 1,
            Recorded::First => {
                let service = self.versions.key(version).service;
                let last = self.edges.entry((service, party)).or_default();
                *last = bucket.max(*last);
            }
        }
    }

    #[inline(always)]
    pub(crate) fn party_id(&mut self, version: u32, operation: Option<u32>) -> u32 {
        let key = (version, operation.unwrap_or(u32::MAX));
        let at = key.0.wrapping_mul(31).wrapping_add(key.1);
        self.recent_parties.get(at, key).unwrap_or_else(|| {
            let id = self.spelt_party(version, operation);
            self.recent_parties.put(at, key, id);
            id
        })
    }

    #[inline(never)]
    fn spelt_party(&mut self, version: u32, operation: Option<u32>) -> u32 {
        let VersionKey { service, version } = self.versions.key(version).clone();
        let operation = operation.map_or(NO_NAME, |operation| self.operations.key(operation).name);
        let ServiceKey { namespace, service, .. } = self.services.key(service).clone();
        let key = PartyKey {
            namespace: self.name_id(&namespace),
            service: self.name_id(&service),
            version: self.name_id(&version),
            operation,
        };
        self.bounded_party(key)
    }

    /// Returns the party of failed calls to `service` that nobody answered, or of those that their request got over.
    pub(crate) fn unanswered_party(&mut self, service: u32, overcome: bool) -> u32 {
        let operation = if overcome { self.name_id(Party::OVERCOME) } else { NO_NAME };
        self.bounded_party(PartyKey { namespace: NO_NAME, service, version: NO_NAME, operation })
    }

    pub(crate) fn party_of(&mut self, party: &Party) -> u32 {
        let key = PartyKey {
            namespace: self.name_id(&party.namespace),
            service: self.name_id(&party.service),
            version: self.name_id(&party.version),
            operation: self.name_id(&party.operation),
        };
        self.bounded_party(key)
    }

    fn bounded_party(&mut self, key: PartyKey) -> u32 {
        if let Some(id) = self.parties.get(&key) {
            return id;
        }
        if self.parties.len() >= self.limits.names_max {
            self.overflow();
            return self.other_party;
        }
        self.parties.intern(key)
    }

    pub(crate) fn party(&self, id: u32) -> Party {
        let [namespace, service, version, operation] =
            self.parties.key(id).names().map(|name| self.names.key(name).to_string());
        Party { namespace, service, version, operation }
    }

    pub(crate) fn operation_key(&self, series: u32) -> OperationKey {
        let SeriesKey { version, operation, age } = *self.series.key(series);
        let operation = self.operations.key(operation);
        let version = self.versions.key(version);
        OperationKey {
            service: self.services.key(version.service).clone(),
            version: version.version.to_string(),
            operation: self.names.key(operation.name).to_string(),
            kind: operation.kind,
            age,
        }
    }

    pub(crate) fn forget_raw_names(&mut self) {
        self.raw_names.clear();
        self.recent_names.clear();
        self.recent_values.clear();
        self.statuses.clear();
        self.recent_operations.clear();
        self.recent_series.clear();
        self.recent_parties.clear();
    }
}
