//! The backstop of P3: what the process really takes, held against `memory_limit`.
//!
//! *Why.* Every part counts what it holds, but not what the allocator, the kernel's copies on its behalf or a library take on
//! top. So resident memory is looked at ten times a second: when it comes near the limit, freed pages are given back at
//! once; what is above the limit is withheld from requests in flight, of which a part is always left, so that whatever else
//! takes memory can slow ingest down and never stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plimsoll_ingest::Ingest;
use tokio_util::sync::CancellationToken;

use crate::allocator;

/// How often memory is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Looks before freed pages are asked for again: asking takes milliseconds.
const COLLECT_EVERY: u32 = 5;

/// What was seen of resident memory.
#[derive(Debug, Default)]
pub struct Resident {
    now: AtomicU64,
    most: AtomicU64,
}

impl Resident {
    /// Returns the bytes resident when last looked at.
    pub fn now(&self) -> u64 {
        // Relaxed, here and below: figures that order nothing.
        self.now.load(Ordering::Relaxed)
    }

    /// Returns the most that was ever seen.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    fn look(&self) -> Option<u64> {
        let bytes = resident_bytes()?;
        self.now.store(bytes, Ordering::Relaxed);
        self.most.fetch_max(bytes, Ordering::Relaxed);
        Some(bytes)
    }
}

/// Watches until told to stop.
pub(super) async fn watch(limit: u64, resident: Arc<Resident>, ingest: Arc<Ingest>, stop: CancellationToken) {
    let near = limit - limit / 8;
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looks_to_rest = 0;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        // Unread once, for want of a file descriptor perhaps: nothing is withheld on the strength of an old figure.
        let Some(mut bytes) = resident.look() else {
            ingest.withhold(0);
            continue;
        };
        if bytes > near && looks_to_rest == 0 {
            looks_to_rest = COLLECT_EVERY;
            // On a thread that may take its time.
            let _ = tokio::task::spawn_blocking(allocator::collect).await;
            bytes = resident.look().unwrap_or(bytes);
        }
        looks_to_rest = looks_to_rest.saturating_sub(1);
        ingest.withhold(usize::try_from(bytes.saturating_sub(limit)).unwrap_or(usize::MAX));
    }
}

/// Reads `VmRSS` from `/proc/self/status`; `None` where there is none.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib << 10)
}
