//! Failed calls that nobody answered, and whom they were meant for.

use arrow::array::RecordBatch;

use crate::attributes::Attributes;
use crate::columns::{SchemaError, Texts};

/// Statuses of HTTP that are given in the place of whoever was called: by a gateway or a proxy.
const IN_ITS_PLACE: [i32; 3] = [502, 503, 504];
/// `DEADLINE_EXCEEDED` and `UNAVAILABLE`, which a client says of itself.
const OF_ITSELF: [&str; 2] = ["4", "14"];

/// What spans of a batch tell of whom they call.
pub(crate) struct Calls<'a> {
    address: Texts<'a>,
    database: Texts<'a>,
    messaging: Texts<'a>,
}

impl<'a> Calls<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Result<Self, SchemaError> {
        Ok(Self {
            address: Texts::of(batch, "server_address")?,
            database: Texts::of(batch, "db_system_name")?,
            messaging: Texts::of(batch, "messaging_system")?,
        })
    }

    /// Returns whom a failed call was meant for, as the caller names it, where nothing says that it was answered: `peer.service`,
    /// else the server's address. Empty where that is not known, and for calls to databases and queues, which emit no spans
    /// however well they are.
    pub(crate) fn unanswered(&self, attributes: &Attributes<'a>, row: usize, http: i32) -> &'a str {
        let answered = http > 0 && !IN_ITS_PLACE.contains(&http);
        if answered || !self.database.get(row).is_empty() || !self.messaging.get(row).is_empty() {
            return "";
        }
        let mut target = self.address.get(row);
        for (key, value) in attributes.each(row) {
            match key {
                "peer.service" if !value.is_empty() => target = value,
                "rpc.grpc.status_code" if !OF_ITSELF.contains(&value) => return "",
                _ => {}
            }
        }
        target
    }
}
