//! A writer of protobuf messages into one growing buffer.
//!
//! *Cost.* A nested message is written in place behind a one-byte length; where it turns out longer than 127 bytes its
//! bytes move up once by the room the length needs.

use crate::proto::{LEN, packed};

/// The message written so far.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

/// Where a nested message began.
#[must_use]
pub(crate) struct Open(usize);

impl Writer {
    /// Begins with room for `bytes`.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// Returns how much was written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns what was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends fields that are already encoded.
    pub(crate) fn raw(&mut self, fields: &[u8]) {
        self.bytes.extend_from_slice(fields);
    }

    /// Appends a varint.
    #[inline]
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// Appends a field that is a varint.
    pub(crate) fn uint(&mut self, tag: u32, value: u64) {
        self.varint(u64::from(tag));
        self.varint(value);
    }

    /// Appends a varint field unless it is zero, which proto3 leaves out.
    pub(crate) fn uint_unless_zero(&mut self, tag: u32, value: u32) {
        if value != 0 {
            self.uint(tag, u64::from(value));
        }
    }

    /// Appends an enumeration's number unless it is zero; a negative one takes ten bytes.
    pub(crate) fn int32_unless_zero(&mut self, tag: u32, value: i32) {
        if value != 0 {
            self.uint(tag, i64::from(value) as u64);
        }
    }

    /// Appends a zigzag varint.
    pub(crate) fn sint32(&mut self, tag: u32, value: i32) {
        self.uint(tag, u64::from(((value << 1) ^ (value >> 31)) as u32));
    }

    /// Appends a field of four bytes.
    pub(crate) fn fixed32(&mut self, tag: u32, value: u32) {
        self.varint(u64::from(tag));
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a field of eight bytes.
    pub(crate) fn fixed64(&mut self, tag: u32, value: u64) {
        self.varint(u64::from(tag));
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a field of four bytes unless it is zero.
    pub(crate) fn fixed32_unless_zero(&mut self, tag: u32, value: u32) {
        if value != 0 {
            self.fixed32(tag, value);
        }
    }

    /// Appends a field of eight bytes unless it is zero.
    pub(crate) fn fixed64_unless_zero(&mut self, tag: u32, value: u64) {
        if value != 0 {
            self.fixed64(tag, value);
        }
    }

    /// Appends a double that is there.
    pub(crate) fn double_if_some(&mut self, tag: u32, value: Option<f64>) {
        if let Some(value) = value {
            self.double(tag, value);
        }
    }

    /// Appends a double.
    pub(crate) fn double(&mut self, tag: u32, value: f64) {
        self.fixed64(tag, value.to_bits());
    }

    /// Appends bytes or text.
    pub(crate) fn bytes(&mut self, tag: u32, value: &[u8]) {
        self.varint(u64::from(tag));
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// Appends bytes that are made one by one.
    pub(crate) fn bytes_of(&mut self, tag: u32, value: impl ExactSizeIterator<Item = u8>) {
        self.varint(u64::from(tag));
        self.varint(value.len() as u64);
        self.bytes.extend(value);
    }

    /// Appends bytes or text unless there are none.
    pub(crate) fn bytes_unless_empty(&mut self, tag: u32, value: &[u8]) {
        if !value.is_empty() {
            self.bytes(tag, value);
        }
    }

    /// Appends repeated eight-byte numbers in packed form; nothing where there are none.
    pub(crate) fn packed_fixed64(&mut self, tag: u32, values: impl ExactSizeIterator<Item = u64>) {
        if values.len() > 0 {
            self.varint(u64::from(packed(tag)));
            self.varint(values.len() as u64 * 8);
            values.for_each(|value| self.bytes.extend_from_slice(&value.to_le_bytes()));
        }
    }

    /// Appends repeated varints in packed form; nothing where there are none.
    pub(crate) fn packed_varint(&mut self, tag: u32, values: &[u64]) {
        if !values.is_empty() {
            let open = self.open(packed(tag));
            values.iter().for_each(|value| self.varint(*value));
            self.close(open);
        }
    }

    /// Begins a nested message.
    pub(crate) fn open(&mut self, tag: u32) -> Open {
        debug_assert_eq!(tag & 7, LEN);
        self.varint(u64::from(tag));
        self.bytes.push(0);
        Open(self.bytes.len())
    }

    /// Ends the nested message that [`Self::open`] began.
    pub(crate) fn close(&mut self, open: Open) {
        let Open(start) = open;
        let mut length = self.bytes.len() - start;
        if length < 0x80 {
            self.bytes[start - 1] = length as u8;
            return;
        }
        let end = self.bytes.len();
        let mut prefix = [0_u8; 10];
        let mut used = 0;
        while length >= 0x80 {
            prefix[used] = length as u8 | 0x80;
            length >>= 7;
            used += 1;
        }
        prefix[used] = length as u8;
        self.bytes.resize(end + used, 0);
        self.bytes.copy_within(start..end, start + used);
        self.bytes[start - 1..start + used].copy_from_slice(&prefix[..=used]);
    }
}
