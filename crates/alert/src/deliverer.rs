//! From the catalog's outbox to the sinks.
//!
//! *Invariants.* Each sink has its own queue and worker, so that a slow one holds up nobody else. A delivery is leased for long
//! enough to be attempted; whatever happens to this process, the lease ends and the delivery comes again.
//!
//! *Cost.* One catalog transaction a look into the outbox, one a settled attempt. Memory: at most [`QUEUE_MAX`] events a sink.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plimsoll_catalog::{Catalog, Delivery};
use plimsoll_model::UnixNanos;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::alertmanager::Alertmanager;
use crate::check::check_sinks;
use crate::config::{AlertError, AlertOptions, SinkConfig, SinkType};
use crate::counters::{SinkCounters, Tally};
use crate::pagerduty::PagerDuty;
use crate::retry::RetryPolicy;
use crate::sink::Sink;
use crate::slack::Slack;
use crate::webhook::Webhook;
use crate::worker::{Leased, Worker, again};

/// Events of one sink in memory.
pub const QUEUE_MAX: usize = 64;

/// Deliveries taken from the outbox at a time.
const LEASE_LIMIT: u32 = 64;

/// A lease covers the longest timeout of a sink this many times: an attempt, and some waiting before it.
const LEASE_TIMEOUTS: u32 = 3;

/// Tells the time; given, so that tests own it.
pub type Clock = Arc<dyn Fn() -> UnixNanos + Send + Sync>;

struct Target {
    sink: Arc<dyn Sink>,
    timeout: Duration,
    tally: Arc<Tally>,
}

/// Delivers what is in the outbox.
pub struct Deliverer {
    targets: BTreeMap<String, Target>,
    catalog: Arc<dyn Catalog>,
    clock: Clock,
    poll_interval: Duration,
    lease: Duration,
    retry: RetryPolicy,
    wake: Arc<Notify>,
}

/// Wakes a [`Deliverer`] and says how it is doing. Cheap to clone; outlives what it belongs to.
#[derive(Clone)]
pub struct DelivererHandle {
    wake: Arc<Notify>,
    tallies: Arc<[Arc<Tally>]>,
}

impl DelivererHandle {
    /// Says that there is something new in the outbox.
    pub fn notify(&self) {
        self.wake.notify_one();
    }

    /// Returns the counters of each sink, by name. Does no I/O.
    pub fn counters(&self) -> Vec<(String, SinkCounters)> {
        self.tallies.iter().map(|tally| tally.read()).collect()
    }
}

impl Deliverer {
    /// Makes the sinks. Nothing is sent before [`Deliverer::run`].
    ///
    /// # Errors
    /// Everything that is wrong with the sinks, all at once.
    pub fn new(options: AlertOptions, catalog: Arc<dyn Catalog>, clock: Clock) -> Result<Self, AlertError> {
        check_sinks(&options.sinks).map_err(|problems| AlertError { problems })?;
        let mut problems = Vec::new();
        let mut targets = BTreeMap::new();
        for config in &options.sinks {
            match make(config) {
                Ok(sink) => {
                    let tally = Arc::new(Tally::new(&config.name));
                    targets.insert(config.name.clone(), Target { sink, timeout: config.timeout, tally });
                }
                Err(problem) => problems.push(format!("sink `{}`: {problem}", config.name)),
            }
        }
        if !problems.is_empty() {
            return Err(AlertError { problems });
        }
        let longest = targets.values().map(|target| target.timeout).max().unwrap_or(Duration::from_secs(10));
        Ok(Self {
            targets,
            catalog,
            clock,
            poll_interval: options.poll_interval,
            lease: longest * LEASE_TIMEOUTS,
            retry: options.retry,
            wake: Arc::new(Notify::new()),
        })
    }

    /// Returns the names of the sinks: whom an event is queued for.
    pub fn sink_names(&self) -> Vec<String> {
        self.targets.keys().cloned().collect()
    }

    /// Returns what wakes this deliverer and tells its counters.
    pub fn handle(&self) -> DelivererHandle {
        let tallies = self.targets.values().map(|target| target.tally.clone()).collect();
        DelivererHandle { wake: self.wake.clone(), tallies }
    }

    /// Says that there is something new in the outbox.
    pub fn notify(&self) {
        self.wake.notify_one();
    }

    /// Returns the counters of each sink, by name. Does no I/O.
    pub fn counters(&self) -> Vec<(String, SinkCounters)> {
        self.targets.values().map(|target| target.tally.read()).collect()
    }

    /// Delivers until `shutdown` ends; attempts that are being made then are finished and recorded. What was not attempted
    /// stays in the outbox. To be called once at a time.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        let mut queues = BTreeMap::new();
        for (name, target) in &self.targets {
            let (sender, receiver) = mpsc::channel(QUEUE_MAX);
            let worker = Worker {
                name: name.clone(),
                sink: target.sink.clone(),
                timeout: target.timeout,
                catalog: self.catalog.clone(),
                clock: self.clock.clone(),
                retry: self.retry,
                tally: target.tally.clone(),
            };
            workers.spawn(worker.run(receiver, stopping.clone()));
            queues.insert(name.as_str(), sender);
        }
        tokio::pin!(shutdown);
        loop {
            self.dispatch(&queues).await;
            tokio::select! {
                () = &mut shutdown => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(self.poll_interval) => {}
            }
        }
        // Pairs with the worker's load, which comes after the closed queue has woken it.
        stopping.store(true, Ordering::Release);
        drop(queues);
        while workers.join_next().await.is_some() {}
    }

    /// Takes everything that is due and hands it to the workers.
    async fn dispatch(&self, queues: &BTreeMap<&str, Sender<Leased>>) {
        loop {
            let now = (self.clock)();
            let leased = match self.catalog.lease_deliveries(now, self.lease, LEASE_LIMIT).await {
                Ok(leased) => leased,
                Err(error) => {
                    warn!(%error, "the outbox cannot be read");
                    return;
                }
            };
            let all = leased.len() < LEASE_LIMIT as usize;
            for delivery in leased {
                self.hand_over(delivery, now, queues).await;
            }
            // What is leased is hidden, so this ends; stopping at a full queue instead would let its sink hide the others.
            if all {
                return;
            }
        }
    }

    async fn hand_over(&self, delivery: Delivery, now: UnixNanos, queues: &BTreeMap<&str, Sender<Leased>>) {
        let (Some(target), Some(queue)) = (self.targets.get(&delivery.sink), queues.get(delivery.sink.as_str())) else {
            let problem = format!("no sink `{}` is configured in `alerts.sinks`", delivery.sink);
            let outcome = again(&self.retry, &delivery, now, None, problem);
            warn!(sink = delivery.sink, event = %delivery.event_id, "an event waits for a sink that is not configured");
            if let Err(error) = self.catalog.settle_delivery(&delivery.event_id, &delivery.sink, &outcome).await {
                warn!(%error, "the result of a delivery could not be recorded");
            }
            return;
        };
        target.tally.see(&delivery.event_id);
        let leased = Leased { delivery, until: now + self.lease };
        if let Err(error) = queue.try_send(leased) {
            debug!(%error, "a sink has more events waiting than fit in memory; they come again when their lease ends");
        }
    }
}

/// Makes the sink that a configuration asks for.
fn make(config: &SinkConfig) -> Result<Arc<dyn Sink>, String> {
    Ok(match config.kind {
        SinkType::Webhook => Arc::new(Webhook::new(config)?),
        SinkType::Pagerduty => Arc::new(PagerDuty::new(config)?),
        SinkType::Alertmanager => Arc::new(Alertmanager::new(config)?),
        SinkType::Slack => Arc::new(Slack::new(config)?),
    })
}
