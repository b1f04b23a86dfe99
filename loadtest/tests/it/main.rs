//! The server as its users meet it: real exporters, a real recording, and a process that is killed.

mod collector;
mod dependencies;
mod generator;
mod kills;
mod peers;
mod recording;
mod stage;
mod telemetrygen;
