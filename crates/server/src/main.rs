//! The `plimsoll` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: plimsoll_server::allocator::Allocator = plimsoll_server::allocator::Allocator {};

fn main() -> ExitCode {
    plimsoll_server::allocator::tune();
    plimsoll_server::cli::run()
}
