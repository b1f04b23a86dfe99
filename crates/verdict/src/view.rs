//! The rows behind a finding on one operation.

use plimsoll_model::signal::OperationSeries;

use crate::design::{Cells, Role};
use crate::evidence::Scope;
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::operation::Operation;
use crate::scopes::{control_of, whole};

/// Which they are, and the cells of both arms; of the control those that the candidate is held against.
pub(crate) struct View<'a> {
    pub(crate) scope: Scope<'a>,
    pub(crate) candidate: Cells<'a>,
    pub(crate) control: Cells<'a>,
}

impl<'a> View<'a> {
    pub(crate) fn of(input: &'a JudgeInput, fold: &'a Fold, index: usize) -> Self {
        let op = &fold.operations[index];
        let names = std::iter::once(op.name.as_str()).chain(op.former.as_deref());
        Self {
            scope: Scope { operations: names.collect(), kind: Some(op.kind), ..of_operation(input, fold, op) },
            candidate: cells(fold, &input.series, op, Role::Candidate),
            control: cells(fold, &input.series, op, control_of(fold)),
        }
    }
}

/// All requests of the service at the times that count for an operation.
pub(crate) fn of_operation<'a>(input: &'a JudgeInput, fold: &'a Fold, op: &Operation) -> Scope<'a> {
    let past = control_of(fold) == Role::Before;
    Scope { without: if past { op.incidents.spans() } else { Vec::new() }, ..whole(input, fold) }
}

/// The cells of an operation in one role; an incident before the start is in none.
pub(crate) fn cells<'a>(fold: &Fold, series: &'a [OperationSeries], op: &Operation, role: Role) -> Cells<'a> {
    let mut cells = fold.frame.cells(series, &op.name, op.kind, role);
    if role == Role::Before {
        cells.retain(|(bucket, ..)| !op.incidents.contain(*bucket));
    }
    cells
}
