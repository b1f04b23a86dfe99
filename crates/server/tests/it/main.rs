//! The server as its users meet it.

mod api;
mod architecture;
mod command_line;
mod grpc;
mod server;
