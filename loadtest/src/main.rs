//! Load generator, replay of recordings, and comparison with peers.
fn main() {}
