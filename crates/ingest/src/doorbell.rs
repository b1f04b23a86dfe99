//! How one consumer sleeps while there is nothing to do, and how those who bring something wake it.
//!
//! *Orderings.* The consumer stores `asleep`, fences, looks for work; a producer makes its work visible, fences, looks at `asleep`.
//! Both fences are `SeqCst`, so at least one of the two sees the other. Only the consumer writes `asleep`. Where several ring before it
//! is awake, one of them makes the system call, and a permit of `unpark` that is not used up costs the consumer one round more.
//!
//! *Cost.* A fence and a load to ring; a system call only where the consumer sleeps.
//!
//! *Model.* `tests/it/model.rs` compiles this very file against loom, which plays every order of what the threads do. So everything that
//! is shared comes from `super::sync`.

use std::sync::OnceLock;

use super::sync::{AtomicBool, Ordering, Thread, current, fence, park};

/// See the module.
#[derive(Debug)]
pub(crate) struct Doorbell {
    asleep: AtomicBool,
    consumer: OnceLock<Thread>,
}

impl Doorbell {
    pub(crate) fn new() -> Self {
        Self { asleep: AtomicBool::new(false), consumer: OnceLock::new() }
    }

    /// Blocks the calling thread, which must be the only consumer, until `has_work`; may return before that.
    pub(crate) fn sleep_unless(&self, has_work: impl Fn() -> bool) {
        self.consumer.get_or_init(current);
        self.asleep.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if !has_work() {
            park();
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes the consumer, after work was made visible.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        // Acquires what `sleep_unless` released: the consumer it registered.
        if self.asleep.load(Ordering::Acquire)
            && let Some(consumer) = self.consumer.get()
        {
            consumer.unpark();
        }
    }
}
