//! SQL as its users meet it: over a store filled through OTLP.

mod attribute_columns;
mod bit_flips;
mod conformance;
mod damage;
mod dictionaries;
mod documentation;
mod fixture;
mod formats;
mod guards;
mod limits;
mod mixed_attributes;
mod parameters;
mod pruning;
mod scripts;
mod system;
mod top;
