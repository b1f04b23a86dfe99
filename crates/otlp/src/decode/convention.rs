//! Span attributes that have a column of their own.

use crate::schema::{HTTP_STATUS_NAMES, SPAN_CONVENTIONS};

/// How many columns attributes fill: those of [`SPAN_CONVENTIONS`] and, last, `http_response_status_code`.
pub(super) const SLOTS: usize = SPAN_CONVENTIONS.len() + 1;
/// The slot of `http_response_status_code`.
pub(super) const HTTP_STATUS: usize = SLOTS - 1;

/// Returns the column's slot and the name's rank in it; the lowest rank that a span has wins.
///
/// Names are told apart by length first, so that most keys are dismissed by one jump.
#[inline]
pub(super) fn slot(key: &[u8]) -> Option<(usize, u8)> {
    // No name is shorter or longer than these.
    if !(8..=26).contains(&key.len()) {
        return None;
    }
    Some(match key {
        b"http.request.method" => (0, 0),
        b"http.method" => (0, 1),
        b"http.route" => (1, 0),
        b"url.path" => (2, 0),
        b"http.target" => (2, 1),
        b"server.address" => (3, 0),
        b"net.peer.name" => (3, 1),
        b"rpc.system.name" => (4, 0),
        b"rpc.system" => (4, 1),
        b"rpc.service" => (5, 0),
        b"rpc.method" => (6, 0),
        b"db.system.name" => (7, 0),
        b"db.system" => (7, 1),
        b"db.operation.name" => (8, 0),
        b"db.operation" => (8, 1),
        b"messaging.system" => (9, 0),
        b"messaging.destination.name" => (10, 0),
        b"messaging.destination" => (10, 1),
        b"error.type" => (11, 0),
        b"http.response.status_code" => (HTTP_STATUS, 0),
        b"http.status_code" => (HTTP_STATUS, 1),
        _ => return None,
    })
}

/// Which entry of a span's attributes fills each column.
pub(super) struct Chosen {
    seen: u16,
    rank: [u8; SLOTS],
    entry: [u32; SLOTS],
}

impl Chosen {
    pub(super) fn new() -> Self {
        Self { seen: 0, rank: [0; SLOTS], entry: [0; SLOTS] }
    }

    /// Offers an entry; of two with one rank the first stays.
    #[inline(always)]
    pub(super) fn offer(&mut self, key: &[u8], entry: usize) {
        if let Some((slot, rank)) = slot(key)
            && (self.seen & 1 << slot == 0 || rank < self.rank[slot])
        {
            self.seen |= 1 << slot;
            self.rank[slot] = rank;
            self.entry[slot] = entry as u32;
        }
    }

    /// Yields slot and entry of each column that is filled.
    #[inline(always)]
    pub(super) fn drain(mut self) -> impl Iterator<Item = (usize, usize)> {
        std::iter::from_fn(move || {
            let slot = self.seen.trailing_zeros() as usize;
            (slot < SLOTS).then(|| {
                self.seen &= self.seen - 1;
                (slot, self.entry[slot] as usize)
            })
        })
    }
}

const _: () = assert!(SLOTS <= 16 && HTTP_STATUS_NAMES.len() == 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_schema_finds_its_column() {
        let mut names = 0;
        for (index, (column, aliases)) in SPAN_CONVENTIONS.iter().enumerate() {
            for (rank, alias) in aliases.iter().enumerate() {
                assert_eq!(slot(alias.as_bytes()), Some((index, rank as u8)), "{column} from {alias}");
                names += 1;
            }
        }
        for (rank, alias) in HTTP_STATUS_NAMES.iter().enumerate() {
            assert_eq!(slot(alias.as_bytes()), Some((HTTP_STATUS, rank as u8)), "{alias}");
            names += 1;
        }
        assert_eq!(names, 21, "a name was added to the schema or to the match alone");
    }
}
