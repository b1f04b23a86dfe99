//! The server as its users meet it.

mod api;
mod architecture;
mod backtest;
mod calling;
mod command_line;
mod grpc;
mod known;
mod numbers;
mod odd;
mod queries;
mod server;
mod telling;
mod vanishing;
