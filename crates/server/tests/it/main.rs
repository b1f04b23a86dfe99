//! The server as its users meet it.

mod api;
mod architecture;
mod backtest;
mod command_line;
mod grpc;
mod server;
mod telling;
