//! Services without requests that log: their records stand for requests, so that what is new among them has something to be held against.
//!
//! Only what was never logged or thrown before is asked for. How many errors there are a record says nothing: a version that says
//! less of what is well logs more of them.

use plimsoll_model::signal::{AgeClass, OperationCell, OperationKey, OperationKind, OperationSeries, WEIGHT_UNIT};

use crate::input::JudgeInput;

/// Returns the same question with log records in place of requests; `None` where there are requests, or no records either.
///
/// Metrics change nothing of that: what is logged is asked beside their levels.
pub(crate) fn by_records(input: &JudgeInput) -> Option<JudgeInput> {
    let service = &input.deploy.service;
    let mut own = input.series.iter().filter(|series| series.key.service == *service).flat_map(|series| &series.cells);
    if input.by_records || input.flag.is_some() || own.any(|(_, cell)| cell.requests > 0) {
        return None;
    }
    let logged = input.aggregates.presence.iter().map(|series| OperationSeries {
        key: OperationKey {
            service: service.clone(),
            version: series.version.clone(),
            operation: String::new(),
            kind: OperationKind::Internal,
            age: AgeClass::Warm,
        },
        cells: series
            .cells
            .iter()
            .filter(|(_, cell)| cell.logs > 0)
            .map(|(bucket, cell)| {
                let weighted_requests = cell.logs.saturating_mul(WEIGHT_UNIT);
                (*bucket, OperationCell { requests: cell.logs, weighted_requests, ..OperationCell::default() })
            })
            .collect(),
    });
    let logged: Vec<OperationSeries> = logged.filter(|series| !series.cells.is_empty()).collect();
    if logged.is_empty() {
        return None;
    }
    let mut asked = input.clone();
    asked.series.extend(logged);
    asked.by_records = true;
    Some(asked)
}
