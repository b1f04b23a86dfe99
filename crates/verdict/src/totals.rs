//! Plain totals of both arms, as findings state them and their queries count them.
//!
//! Tests weigh, pair and deal out; what a reader is told is what anybody can count: rows of the versions compared over the
//! times compared, every bucket of them.

use plimsoll_model::log::LogSeries;
use plimsoll_model::signal::{Fingerprint, OperationCell, OperationSeries, WEIGHT_UNIT};
use plimsoll_model::{Interval, Sample};

use crate::design::{Cells, Frame, Role};
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::measured;

/// Cells of the whole service in any of the roles.
fn cells<'a>(
    series: &'a [OperationSeries],
    frame: &'a Frame,
    roles: &'a [Role],
) -> impl Iterator<Item = &'a OperationCell> {
    let own = series.iter().filter(move |series| series.key.service == frame.service);
    own.flat_map(move |series| series.cells.iter().map(move |(bucket, cell)| (&series.key.version, *bucket, cell)))
        .filter(move |(version, bucket, _)| frame.role(version, *bucket).is_some_and(|role| roles.contains(&role)))
        .map(|(_, _, cell)| cell)
}

/// Requests, by weight where they are counted so.
fn sum<'a>(cells: impl Iterator<Item = &'a OperationCell>, weighted: bool) -> u64 {
    if weighted {
        let sum = cells.fold(0_u64, |sum, cell| sum.saturating_add(cell.weighted_requests));
        return (sum as f64 / WEIGHT_UNIT as f64).round() as u64;
    }
    cells.fold(0, |sum, cell| sum.saturating_add(cell.requests))
}

/// Requests of the whole service.
pub(crate) fn requests(input: &JudgeInput, fold: &Fold, roles: &[Role]) -> u64 {
    sum(cells(&input.series, &fold.frame, roles), input.weighted)
}

/// Failed and all requests of one operation.
pub(crate) fn failed(cells: &Cells<'_>, weighted: bool) -> Sample {
    let all = || cells.iter().map(|(_, _, cell)| *cell);
    let (errors, requests) = all().fold((0_u64, 0_u64), |sum, cell| {
        let (errors, requests) =
            if weighted { (cell.weighted_errors, cell.weighted_requests) } else { (cell.errors, cell.requests) };
        (sum.0.saturating_add(errors), sum.1.saturating_add(requests))
    });
    Sample { value: if requests > 0 { errors as f64 / requests as f64 } else { 0.0 }, n: sum(all(), weighted) }
}

/// Occurrences of an exception a request.
pub(crate) fn exceptions(input: &JudgeInput, fold: &Fold, roles: &[Role], fingerprint: Fingerprint) -> Sample {
    let seen = cells(measured::spans(input), &fold.frame, roles).filter_map(|cell| cell.exceptions.get(&fingerprint));
    a_request(seen.map(|seen| seen.count).sum(), requests(input, fold, roles))
}

/// Messages a request.
pub(crate) fn messages(input: &JudgeInput, fold: &Fold, roles: &[Role], wanted: impl Fn(&LogSeries) -> bool) -> Sample {
    let logged = input.aggregates.logs.iter().filter(|series| wanted(series)).flat_map(|series| {
        let within = series.cells.iter().filter(move |(bucket, _)| {
            fold.frame.role(&series.version, *bucket).is_some_and(|role| roles.contains(&role))
        });
        within.map(|(_, cell)| cell.count)
    });
    a_request(logged.sum(), requests(input, fold, roles))
}

/// User actions a request.
pub(crate) fn actions(input: &JudgeInput, fold: &Fold, role: Role, action: &str) -> Sample {
    let all = input.aggregates.actions.iter().filter(|series| series.action == action);
    let counted = all.flat_map(|series| {
        let within = series.cells.iter().filter(|(at, _)| fold.frame.role(&series.version, *at) == Some(role));
        within.map(|(_, cell)| cell.count)
    });
    a_request(counted.sum(), requests(input, fold, &[role]))
}

fn a_request(count: u64, n: u64) -> Sample {
    Sample { value: count as f64 / n.max(1) as f64, n }
}

/// The time that all of the control is taken from, before the start and since.
pub(crate) fn throughout(frame: &Frame) -> Interval {
    let before = frame.before_span();
    // The candidate's own version is no control since the start.
    Interval { to: if frame.same { before.to } else { frame.candidate_span().to }, ..before }
}

/// The part of a stretch of time that lies within another.
pub(crate) fn within(span: Interval, of: Interval) -> Interval {
    let from = span.from.max(of.from);
    Interval { from, to: span.to.min(of.to).max(from) }
}
