//! What threads share, under names that a model can put its own in the place of: see [`doorbell`](crate::doorbell).

pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
pub(crate) use std::thread::{Thread, current, park};
