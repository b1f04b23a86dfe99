//! Visitors: an open loop, so that a slow shop does not slow its visitors down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use tokio::task::JoinHandle;

use super::shop::{Shop, Visit};

/// Visitors that keep coming until told to stop.
pub(super) struct Traffic {
    task: JoinHandle<()>,
    visits: Arc<AtomicU64>,
}

impl Traffic {
    /// Sends `rate` visitors a second, at random intervals as independent visitors come.
    pub(super) fn start(shop: Arc<Shop>, rate: f64) -> Self {
        let visits = Arc::new(AtomicU64::new(0));
        let counted = visits.clone();
        let task = tokio::spawn(async move {
            let mut next = tokio::time::Instant::now();
            loop {
                let gap = -(1.0 - rand::rng().random::<f64>()).ln() / rate;
                next += Duration::from_secs_f64(gap);
                tokio::time::sleep_until(next).await;
                let visit = match rand::rng().random_range(0..10) {
                    0..2 => Visit::Browse,
                    2..4 => Visit::AddToCart,
                    _ => Visit::Buy,
                };
                let shop = shop.clone();
                // Relaxed: a count for display, nothing depends on its order.
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move { shop.visit(visit).await });
            }
        });
        Self { task, visits }
    }

    /// Returns how many visitors have come.
    pub(super) fn visits(&self) -> u64 {
        // Relaxed: pairs with the count above, for display.
        self.visits.load(Ordering::Relaxed)
    }

    /// Lets no more visitors in.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}
