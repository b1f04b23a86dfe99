//! The watcher through its public face, on a real catalog, with scripted aggregates and a clock of its own.

mod evidence;
mod logged;
mod restarting;
mod scene;
mod watching;
