//! Who emitted a row: the columns that say so, and what they come to, looked up once for each resource of a batch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use plimsoll_model::{ServiceKey, UnixNanos};
use xxhash_rust::xxh3::xxh3_64;

use crate::columns::{SchemaError, SharedText};
use crate::intern::FixedMap;
use crate::quality::Word;
use crate::state::SignalState;

/// Resources whose attributes are remembered; all are forgotten when there are more.
const RESOURCES_MAX: usize = 4_096;

/// Who emitted a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Emitter {
    pub(crate) service: u32,
    pub(crate) version: u32,
    /// When the instance started; 0 where unknown.
    pub(crate) started: u64,
    /// Hash of the instance's id, or of its resource where it has none.
    pub(crate) instance: u64,
    /// Its place among the resources of the batch.
    pub(crate) resource: u32,
}

impl Emitter {
    /// Nobody yet.
    pub(crate) const NONE: Self = Self { service: 0, version: 0, started: 0, instance: 0, resource: 0 };
}

/// The columns that say who emitted a row.
pub(crate) struct Resources<'a> {
    environment: SharedText<'a>,
    namespace: SharedText<'a>,
    name: SharedText<'a>,
    version: SharedText<'a>,
    instance: SharedText<'a>,
    attributes: SharedText<'a>,
    /// All of them have the same keys, so that one tells a resource.
    shared: bool,
    /// By key where one tells a resource, and by all keys where not.
    by_key: Vec<Option<Emitter>>,
    by_keys: FixedMap<[u32; 6], Emitter>,
    /// Allow-listed attributes of each, as numbers of attribute and value.
    values: Vec<Arc<[(u32, u32)]>>,
    /// The key met last where one tells a resource, and who that was.
    last: Option<(u32, Emitter)>,
}

impl<'a> Resources<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Result<Self, SchemaError> {
        let name = SharedText::of(batch, "service_name")?;
        let environment = SharedText::of(batch, "environment")?;
        let namespace = SharedText::of(batch, "service_namespace")?;
        let version = SharedText::of(batch, "service_version")?;
        let instance = SharedText::of(batch, "service_instance_id")?;
        let attributes = SharedText::of(batch, "resource_attributes")?;
        let shared = [&environment, &namespace, &version, &instance, &attributes].iter().all(|t| t.has_keys_of(&name));
        Ok(Self {
            environment,
            namespace,
            name,
            version,
            instance,
            attributes,
            shared,
            by_key: Vec::new(),
            by_keys: FixedMap::default(),
            values: Vec::new(),
            last: None,
        })
    }

    /// Returns the key of each row's resource, which tells it where [`Self::last_key`] returns one.
    pub(crate) fn keys(&self) -> &'a [u32] {
        self.name.keys()
    }

    /// Returns the key of the resource met last, where one tells a resource.
    pub(crate) fn last_key(&self) -> Option<u32> {
        self.last.map(|(key, _)| key)
    }

    /// Returns the allow-listed attributes of an emitter's resource.
    pub(crate) fn values(&self, emitter: Emitter) -> &[(u32, u32)] {
        &self.values[emitter.resource as usize]
    }

    /// Says who emitted a row; looked up once for each resource of the batch.
    #[inline(always)]
    pub(crate) fn emitter(&mut self, state: &mut SignalState, row: usize, at: u64, received: u64) -> Emitter {
        let key = self.name.key(row);
        match self.last {
            Some((last, emitter)) if last == key => emitter,
            _ => self.find(state, row, at, received),
        }
    }

    fn find(&mut self, state: &mut SignalState, row: usize, at: u64, received: u64) -> Emitter {
        if self.shared {
            let key = self.name.key(row) as usize;
            if self.by_key.len() <= key {
                self.by_key.resize(key + 1, None);
            }
            let emitter = match self.by_key[key] {
                Some(emitter) => emitter,
                None => self.introduce(state, row, at, received),
            };
            self.by_key[key] = Some(emitter);
            self.last = Some((key as u32, emitter));
            return emitter;
        }
        let columns = [&self.environment, &self.namespace, &self.name, &self.version, &self.instance, &self.attributes];
        let keys = columns.map(|text| text.key(row));
        if let Some(emitter) = self.by_keys.get(&keys) {
            return *emitter;
        }
        let emitter = self.introduce(state, row, at, received);
        self.by_keys.insert(keys, emitter);
        emitter
    }

    /// Finds the numbers of a resource that is new in this batch.
    fn introduce(&mut self, state: &mut SignalState, row: usize, at: u64, received: u64) -> Emitter {
        let service = ServiceKey {
            environment: self.environment.value(row).to_owned(),
            namespace: self.namespace.value(row).to_owned(),
            service: self.name.value(row).to_owned(),
        };
        let (version, new) = state.registry.version_id(&service, self.version.value(row));
        if new {
            state.registry.version[version as usize].first_seen = UnixNanos(at);
            state.observe_version(version, UnixNanos(at));
        }
        let service = state.registry.versions.key(version).service;
        let (instance, attributes) = (self.instance.value(row), self.attributes.value(row));
        let max = state.registry.limits.instances_max;
        let start = state.instances.started(version, instance, attributes, at, received, max);
        state.registry.counters.untracked_instances += u64::from(!start.tracked);
        if self.version.value(row).is_empty() {
            state.registry.service[service as usize].quality.say(Word::UnversionedTelemetry, received);
        }
        let resource = self.values.len() as u32;
        let emitter = Emitter { service, version, started: start.at, instance: start.instance, resource };
        for at in start.new {
            state.note_start(emitter, at, received);
        }
        self.values.push(state.resource_values(attributes));
        emitter
    }
}

impl SignalState {
    /// Finds the allow-listed attributes in the JSON text of a resource.
    fn resource_values(&mut self, attributes: &str) -> Arc<[(u32, u32)]> {
        let hash = xxh3_64(attributes.as_bytes());
        if let Some(known) = self.resource_values.get(&hash) {
            return Arc::clone(known);
        }
        let mut found = Vec::new();
        for (key, number) in self.drill_keys.each() {
            let begin = format!("\"{key}\":\"");
            if let Some(value) = attributes.split_once(&begin).and_then(|(_, rest)| rest.split('"').next()) {
                found.push((number, self.registry.value_id(value)));
            }
        }
        if self.resource_values.len() >= RESOURCES_MAX {
            self.resource_values.clear();
        }
        let found: Arc<[(u32, u32)]> = found.into();
        self.resource_values.insert(hash, Arc::clone(&found));
        found
    }
}
