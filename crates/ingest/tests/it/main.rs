//! Ingest as its clients meet it: bytes on loopback sockets in, answers and published rows out.

mod admission;
mod commit;
mod durable;
mod fakes;
mod grpc;
mod hostile;
mod http;
mod joined;
mod model;
mod repeats;
mod requests;
mod shutdown;
mod side;
mod strays;
mod wire;
