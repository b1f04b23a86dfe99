//! Delivery through its public face: a catalog in memory, webhooks on the loopback interface.

mod catalog;
mod config;
mod delivery;
mod egress;
mod people;
