//! The codec through its public face, against the upstream message types.

mod generate;
mod joined;
mod json;
mod malformed;
mod parts;
mod round_trip;
mod rows;
mod swell;
