//! The server as its users meet it: real exporters, a real recording, and a process that is killed.

mod answers;
mod clients;
mod collector;
mod dependencies;
mod deploy_examples;
mod generator;
mod hostile_clients;
mod kills;
mod measure;
mod mesh;
mod peers;
mod recording;
mod segments;
mod stage;
mod telemetrygen;
mod watching;
