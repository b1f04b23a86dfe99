//! The backstop of P3: what the process really takes, held against `memory_limit`.
//!
//! *Why.* Every part counts what it holds, but not what the allocator, the kernel's copies on its behalf or a library take on
//! top. So resident memory is looked at ten times a second. What is above seven eighths of the limit is withheld from requests in
//! flight and from the tail, of which a part is always left, so that whatever else takes memory can slow ingest down and never stop it.
//!
//! *Freed pages* are kept for whoever takes them next, and are given back as memory gets short: at every look where something is
//! withheld, twice a second above three quarters, every few seconds below, and never where the process takes no more than it does when it is
//! idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plimsoll_ingest::Ingest;
use tokio_util::sync::CancellationToken;

use crate::allocator;

/// How often memory is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Looks before freed pages are asked for again, from an eighth, a quarter, and further below the limit: asking takes milliseconds.
const COLLECT: [u32; 3] = [1, 5, 30];

/// What an idle process may keep.
const IDLE_BYTES: u64 = 48 << 20;

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
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looks = 0;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        looks += 1;
        // Unread once, for want of a file descriptor perhaps: nothing is withheld on the strength of an old figure.
        let Some(mut bytes) = resident.look() else {
            ingest.withhold(0);
            continue;
        };
        if is_due(bytes, limit, looks) {
            looks = 0;
            // On a thread that may take its time.
            let _ = tokio::task::spawn_blocking(allocator::collect).await;
            bytes = resident.look().unwrap_or(bytes);
        }
        ingest.withhold(usize::try_from(bytes.saturating_sub(near(limit))).unwrap_or(usize::MAX));
    }
}

/// From here on the limit is near.
fn near(limit: u64) -> u64 {
    limit - limit / 8
}

/// Says whether freed pages are to be given back, where that was done last so many looks ago.
fn is_due(bytes: u64, limit: u64, looks: u32) -> bool {
    let step = match bytes {
        bytes if bytes > near(limit) => COLLECT[0],
        bytes if bytes > limit - limit / 4 => COLLECT[1],
        bytes if bytes > IDLE_BYTES => COLLECT[2],
        _ => return false,
    };
    looks >= step
}

/// Reads `VmRSS` from `/proc/self/status`; `None` where there is none.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_pages_go_back_more_often_the_shorter_memory_is() {
        let limit = 512 << 20;
        let due = |mib: u64| (0..1_000).find(|looks| is_due(mib << 20, limit, *looks));
        assert_eq!(
            [40, 49, 384, 385, 448, 449, 1_000].map(due),
            [None, Some(30), Some(30), Some(5), Some(5), Some(1), Some(1)]
        );
    }
}
