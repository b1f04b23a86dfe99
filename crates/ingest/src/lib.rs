//! Receivers, admission, lock-free lanes, commit and replay.
