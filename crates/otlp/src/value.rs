//! Attribute values as text, and back.
