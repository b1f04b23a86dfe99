//! Columns taken into the arrays of one batch.
//!
//! *Invariants.* Columns of one type in which no row has a value are one array. Most columns of most batches are such, and to make, to weigh
//! and to free each of them costs more than a record of a small request.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;

/// What is left of a column once its values are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Nothing: the buffers themselves are taken, and the column is not used again.
    Nothing,
    /// Its room: copies are taken that are no larger than they have to be, and the column is filled again from its start.
    Room,
}

/// The taking of one batch.
pub(super) struct Taking {
    leave: Leave,
    /// Columns without a value, of each type that was asked for.
    absent: Vec<ArrayRef>,
}

impl Taking {
    pub(super) fn new(leave: Leave) -> Self {
        Self { leave, absent: Vec::new() }
    }

    /// Says whether the columns are filled again.
    pub(super) fn leaves_room(&self) -> bool {
        self.leave == Leave::Room
    }

    /// Takes the values of a column.
    pub(super) fn take<T: Clone>(&self, values: &mut Vec<T>) -> Vec<T> {
        match self.leave {
            Leave::Nothing => std::mem::take(values),
            Leave::Room => {
                let taken = values.as_slice().to_vec();
                values.clear();
                taken
            }
        }
    }

    /// Takes offsets, of which the first always stands.
    pub(super) fn take_offsets(&self, offsets: &mut Vec<i32>) -> Vec<i32> {
        let taken = self.take(offsets);
        if self.leaves_room() {
            offsets.push(0);
        }
        taken
    }

    /// Returns the column of this type and of so many rows in which no row has a value, as `make` makes it.
    pub(super) fn absent(&mut self, of: &DataType, rows: usize, make: impl FnOnce() -> ArrayRef) -> ArrayRef {
        if let Some(made) = self.absent.iter().find(|made| made.len() == rows && made.data_type() == of) {
            return Arc::clone(made);
        }
        let made = make();
        debug_assert!(made.data_type() == of && made.len() == rows && made.null_count() == rows);
        self.absent.push(Arc::clone(&made));
        made
    }
}
