//! The plimsoll binary: configuration, wiring, faces, command line, shutdown.
