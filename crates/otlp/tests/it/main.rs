//! The codec through its public face, against the upstream message types.

mod generate;
mod rows;
