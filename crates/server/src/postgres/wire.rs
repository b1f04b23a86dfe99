//! Messages of clients, read from bytes (PostgreSQL protocol 3.0, "Message Formats").
//!
//! *Layout.* After the start a message is a type byte, a length of four bytes that counts itself, and a body; the first message
//! has no type byte. Integers are big-endian, texts end with a zero byte.
//!
//! *Invariants.* A length is checked before it is believed: nothing is reserved for bytes that have not come. No body, however
//! it is made, reads past its end.

use bytes::{Buf, Bytes, BytesMut};

/// Longest message after the start: room for the longest statement with its parameters.
pub(super) const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// Longest first message.
const STARTUP_BYTES_MAX: usize = 10_000;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// Bytes that are no message; the connection cannot go on, since nobody knows where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) String);

/// What a connection can begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum First {
    /// The client asks for encryption, which is not spoken here.
    Encryption,
    /// Another connection's statement is to end.
    Cancel {
        /// Which connection.
        process: u32,
        /// Proof that it may.
        secret: u32,
    },
    /// A session, with what the client says of itself.
    Session {
        /// Minor version of the protocol that the client speaks.
        minor: u16,
        /// Names and values, `user` and `database` among them.
        parameters: Vec<(String, String)>,
    },
}

/// What a statement or portal is named in `Describe` and `Close`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A prepared statement.
    Statement(String),
    /// A portal.
    Portal(String),
}

/// A message of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Statements to run at once.
    Query(String),
    /// A statement to keep.
    Parse {
        /// Its name.
        name: String,
        /// Its text.
        sql: String,
        /// Object ids of the types of its parameters; zero where the client leaves it open.
        types: Vec<u32>,
    },
    /// Parameters for a statement.
    Bind {
        /// Name of the portal.
        portal: String,
        /// Name of the statement.
        statement: String,
        /// Formats of the values: none, one for all, or one each; 1 is binary.
        formats: Vec<i16>,
        /// The values; `None` is null.
        values: Vec<Option<Bytes>>,
        /// Formats of the columns, in the same way.
        results: Vec<i16>,
    },
    /// Asks for columns and parameters.
    Describe(Target),
    /// Runs a portal.
    Execute {
        /// Its name.
        portal: String,
        /// Rows at most; zero is all.
        rows: u32,
    },
    /// Forgets.
    Close(Target),
    /// Asks for what is ready.
    Flush,
    /// Ends a round of messages.
    Sync,
    /// Ends the session.
    Terminate,
    /// Part of an authentication.
    Password(Bytes),
    /// Data for a `COPY` that was never begun.
    Copy,
}

/// Takes the first message out of `inbox`; `None` where it has not come whole.
pub(super) fn first(inbox: &mut BytesMut) -> Result<Option<First>, Malformed> {
    let Some(length) = inbox.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if !(8..=STARTUP_BYTES_MAX).contains(&length) {
        return Err(Malformed(format!("a first message of {length} bytes: is this a client of Postgres?")));
    }
    if inbox.len() < length {
        return Ok(None);
    }
    let mut body = Body(inbox.split_to(length).freeze());
    body.0.advance(4);
    let code = body.u32()?;
    match code {
        SSL_REQUEST | GSS_REQUEST => Ok(Some(First::Encryption)),
        CANCEL_REQUEST => Ok(Some(First::Cancel { process: body.u32()?, secret: body.u32()? })),
        _ if code >> 16 == 3 => {
            let mut parameters = Vec::new();
            loop {
                let name = body.text()?;
                if name.is_empty() {
                    break;
                }
                parameters.push((name, body.text()?));
            }
            Ok(Some(First::Session { minor: u16::try_from(code & 0xffff).unwrap_or(u16::MAX), parameters }))
        }
        _ => Err(Malformed(format!("protocol {}.{} is not spoken here, 3.0 is", code >> 16, code & 0xffff))),
    }
}

/// The messages that a client may send.
const KINDS: &[u8] = b"QPBDECHSXpdcfF";

/// Takes the next message out of `inbox`; `None` where it has not come whole.
pub(super) fn next(inbox: &mut BytesMut) -> Result<Option<Message>, Malformed> {
    let Some([kind, length @ ..]) = inbox.first_chunk::<5>() else { return Ok(None) };
    let (kind, length) = (*kind, u32::from_be_bytes(*length) as usize);
    if !KINDS.contains(&kind) {
        return Err(Malformed(format!("there is no message of type {kind:#04x}")));
    }
    if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(Malformed(format!("a message of {length} bytes: at most {MESSAGE_BYTES_MAX} are taken")));
    }
    if inbox.len() < 1 + length {
        return Ok(None);
    }
    let mut body = Body(inbox.split_to(1 + length).freeze());
    body.0.advance(5);
    let message = match kind {
        b'Q' => Message::Query(body.text()?),
        b'P' => {
            let (name, sql) = (body.text()?, body.text()?);
            let count = body.u16()?;
            let types = (0..count).map(|_| body.u32()).collect::<Result<_, _>>()?;
            Message::Parse { name, sql, types }
        }
        b'B' => {
            let (portal, statement) = (body.text()?, body.text()?);
            let formats = body.formats()?;
            let count = body.u16()?;
            let values = (0..count).map(|_| body.value()).collect::<Result<_, _>>()?;
            Message::Bind { portal, statement, formats, values, results: body.formats()? }
        }
        b'D' => Message::Describe(body.target()?),
        b'C' => Message::Close(body.target()?),
        b'E' => Message::Execute { portal: body.text()?, rows: body.u32()? },
        b'H' => Message::Flush,
        b'S' => Message::Sync,
        b'X' => Message::Terminate,
        b'p' => Message::Password(std::mem::take(&mut body.0)),
        // Function calls are as gone from clients as `COPY FROM` is refused here.
        _ => Message::Copy,
    };
    Ok(Some(message))
}

/// Returns how many bytes there are of the message at the front of `inbox` where it is one that would be taken were it shorter.
pub(super) fn too_long(inbox: &BytesMut) -> Option<usize> {
    let [kind, length @ ..] = inbox.first_chunk::<5>()?;
    let length = u32::from_be_bytes(*length) as usize;
    (KINDS.contains(kind) && length > MESSAGE_BYTES_MAX).then_some(1 + length)
}

/// Returns how long the message at the front of `inbox` is going to be, once that much is known.
pub(super) fn announced(inbox: &BytesMut) -> Option<usize> {
    inbox.first_chunk::<5>().map(|[_, length @ ..]| u32::from_be_bytes(*length) as usize)
}

/// The rest of a message.
pub(super) struct Body(pub(super) Bytes);

impl Body {
    fn short() -> Malformed {
        Malformed("a message ends before its contents do".to_owned())
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.0.try_get_u16().map_err(|_| Self::short())
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| Self::short())
    }

    /// A text up to its zero byte; what is not UTF-8 is replaced, as it can only be wrong.
    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(Self::short)?;
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0.advance(end + 1);
        Ok(text)
    }

    fn formats(&mut self) -> Result<Vec<i16>, Malformed> {
        let count = self.u16()?;
        (0..count).map(|_| self.u16().map(u16::cast_signed)).collect()
    }

    /// A value behind its length; a length below zero is null.
    pub(super) fn value(&mut self) -> Result<Option<Bytes>, Malformed> {
        let length = self.u32()?;
        if length.cast_signed() < 0 {
            return Ok(None);
        }
        let length = length as usize;
        if length > self.0.len() {
            return Err(Self::short());
        }
        Ok(Some(self.0.split_to(length)))
    }

    fn target(&mut self) -> Result<Target, Malformed> {
        let kind = self.0.try_get_u8().map_err(|_| Self::short())?;
        let name = self.text()?;
        match kind {
            b'S' => Ok(Target::Statement(name)),
            b'P' => Ok(Target::Portal(name)),
            _ => Err(Malformed(format!("`{}` is neither a statement nor a portal", kind.escape_ascii()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u8, body: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::from(&[kind][..]);
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_message_is_taken_only_when_it_is_whole() {
        let whole = message(b'Q', b"SELECT 1\0");
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert_eq!(next(&mut part), Ok(None), "{cut} bytes");
            assert_eq!(part.len(), cut, "nothing is taken of a part");
        }
        let mut two = whole.clone();
        two.extend_from_slice(&message(b'S', b""));
        assert_eq!(next(&mut two), Ok(Some(Message::Query("SELECT 1".to_owned()))));
        assert_eq!(next(&mut two), Ok(Some(Message::Sync)));
        assert!(two.is_empty());
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_bytes_come() {
        let mut giant = BytesMut::from(&b"Q\x7f\xff\xff\xff"[..]);
        assert!(next(&mut giant).is_err());
        let mut start = BytesMut::from(&b"\x7f\xff\xff\xff"[..]);
        assert!(first(&mut start).is_err());
    }

    #[test]
    fn a_body_shorter_than_its_counts_is_refused() {
        // Sixty thousand parameters in four bytes.
        assert!(next(&mut message(b'P', b"\0\0\xff\xff")).is_err());
        assert!(next(&mut message(b'B', b"\0\0\0\0\0\x01\x00\x00\x01\x00")).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = first(&mut BytesMut::from(&bytes[..]));
            let mut inbox = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = next(&mut inbox) {}
        }

        #[test]
        fn no_body_makes_the_reader_panic(
            kind in prop::sample::select(b"QPBDECHSXp".to_vec()),
            body in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = next(&mut message(kind, &body));
        }
    }
}
