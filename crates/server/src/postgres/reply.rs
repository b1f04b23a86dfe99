//! Messages of the server, written as bytes (PostgreSQL protocol 3.0, "Message Formats").

use bytes::{BufMut, BytesMut};

use super::sqlstate::Problem;

/// Whether a transaction is open, as every answer ends by saying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transaction {
    /// None is.
    Idle,
    /// One is.
    Open,
    /// One is, and failed: only its end is taken.
    Failed,
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// Name.
    pub(super) name: String,
    /// Object id of the type.
    pub(super) oid: u32,
    /// Bytes of a value; -1 where they vary.
    pub(super) length: i16,
    /// Whether values are sent in their binary form.
    pub(super) binary: bool,
}

/// Appends a message: its type, its length, and what `body` writes.
pub(super) fn message(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn text(out: &mut BytesMut, text: &str) {
    // A zero byte would end the text early and shift what follows it.
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.put_u8(0);
}

pub(super) fn authenticated(out: &mut BytesMut) {
    message(out, b'R', |out| out.put_u32(0));
}

/// Asks for SASL with the one mechanism that is spoken.
pub(super) fn ask_sasl(out: &mut BytesMut, mechanism: &str) {
    message(out, b'R', |out| {
        out.put_u32(10);
        text(out, mechanism);
        out.put_u8(0);
    });
}

pub(super) fn sasl_continue(out: &mut BytesMut, data: &str) {
    message(out, b'R', |out| {
        out.put_u32(11);
        out.put_slice(data.as_bytes());
    });
}

pub(super) fn sasl_final(out: &mut BytesMut, data: &str) {
    message(out, b'R', |out| {
        out.put_u32(12);
        out.put_slice(data.as_bytes());
    });
}

pub(super) fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

/// Says that only 3.0 is spoken, to a client that asked for more.
pub(super) fn negotiate(out: &mut BytesMut, unknown: &[&str]) {
    message(out, b'v', |out| {
        out.put_u32(3 << 16);
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
        for name in unknown {
            text(out, name);
        }
    });
}

pub(super) fn key_data(out: &mut BytesMut, process: u32, secret: u32) {
    message(out, b'K', |out| {
        out.put_u32(process);
        out.put_u32(secret);
    });
}

pub(super) fn ready(out: &mut BytesMut, transaction: Transaction) {
    message(out, b'Z', |out| {
        out.put_u8(match transaction {
            Transaction::Idle => b'I',
            Transaction::Open => b'T',
            Transaction::Failed => b'E',
        });
    });
}

pub(super) fn parse_complete(out: &mut BytesMut) {
    message(out, b'1', |_| {});
}

pub(super) fn bind_complete(out: &mut BytesMut) {
    message(out, b'2', |_| {});
}

pub(super) fn close_complete(out: &mut BytesMut) {
    message(out, b'3', |_| {});
}

pub(super) fn no_data(out: &mut BytesMut) {
    message(out, b'n', |_| {});
}

pub(super) fn empty_query(out: &mut BytesMut) {
    message(out, b'I', |_| {});
}

pub(super) fn portal_suspended(out: &mut BytesMut) {
    message(out, b's', |_| {});
}

pub(super) fn command_complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |out| text(out, tag));
}

pub(super) fn parameter_description(out: &mut BytesMut, types: &[u32]) {
    message(out, b't', |out| {
        out.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
        for oid in types {
            out.put_u32(*oid);
        }
    });
}

pub(super) fn row_description(out: &mut BytesMut, columns: &[Described]) {
    message(out, b'T', |out| {
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for column in columns {
            text(out, &column.name);
            // Neither table nor column number: every answer is computed.
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(column.oid);
            out.put_i16(column.length);
            out.put_i32(-1);
            out.put_u16(u16::from(column.binary));
        }
    });
}

/// Begins `COPY .. TO STDOUT`, all of its columns in one form.
pub(super) fn copy_out(out: &mut BytesMut, columns: usize, binary: bool) {
    message(out, b'H', |out| {
        out.put_u8(u8::from(binary));
        out.put_u16(u16::try_from(columns).unwrap_or(u16::MAX));
        for _ in 0..columns {
            out.put_u16(u16::from(binary));
        }
    });
}

/// Sends what `write` writes of a copy, where it writes anything.
pub(super) fn copy_data(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let mut data = BytesMut::new();
    write(&mut data);
    if !data.is_empty() {
        message(out, b'd', |out| out.put_slice(&data));
    }
}

pub(super) fn copy_done(out: &mut BytesMut) {
    message(out, b'c', |_| {});
}

pub(super) fn error(out: &mut BytesMut, problem: &Problem) {
    fields(out, b'E', problem);
}

pub(super) fn notice(out: &mut BytesMut, problem: &Problem) {
    fields(out, b'N', problem);
}

fn fields(out: &mut BytesMut, kind: u8, problem: &Problem) {
    message(out, kind, |out| {
        for (field, value) in [
            (b'S', Some(problem.severity)),
            (b'V', Some(problem.severity)),
            (b'C', Some(problem.code)),
            (b'M', Some(problem.message.as_str())),
            (b'H', problem.hint.as_deref()),
        ] {
            if let Some(value) = value {
                out.put_u8(field);
                text(out, value);
            }
        }
        if let Some(position) = problem.position {
            out.put_u8(b'P');
            text(out, &position.to_string());
        }
        out.put_u8(0);
    });
}
