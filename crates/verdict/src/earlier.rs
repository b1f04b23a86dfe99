//! What the service did before the start, gathered in one walk over its cells.

use std::collections::BTreeMap;

use plimsoll_model::Bucket;
use plimsoll_model::signal::OperationKind;

use crate::design::{Cells, Frame, Role};
use crate::flow;
use crate::incident::Counted;
use crate::input::JudgeInput;
use crate::novelty::Novelty;

pub(crate) struct Earlier<'a> {
    /// Cells of the control by the name under which an operation is compared, those of one series after those of another.
    pub(crate) past: BTreeMap<(&'a str, OperationKind), Cells<'a>>,
    /// Failed and all requests of the control in the buckets in which it had any, ascending.
    pub(crate) counted: Vec<Counted>,
    /// Requests of all versions by weight, in each bucket from the first that counts to the start.
    pub(crate) served: Vec<f64>,
}

impl<'a> Earlier<'a> {
    /// Gathers it, and shows `novelty` the control's cells.
    pub(crate) fn of(frame: &'a Frame, input: &'a JudgeInput, novelty: &mut Novelty) -> Self {
        let mut past: BTreeMap<(&str, OperationKind), Cells<'_>> = BTreeMap::new();
        let buckets = frame.start.0.saturating_sub(frame.earliest.0) as usize;
        let (mut served, mut counted) = (vec![0.0; buckets], vec![None; buckets]);
        for series in input.series.iter().filter(|s| s.key.service == frame.service) {
            let roles = frame.roles(&series.key.version);
            let mut cells = Vec::new();
            let first = series.cells.partition_point(|(bucket, _)| *bucket < frame.earliest);
            for (bucket, cell) in series.cells[first..].iter().take_while(|(bucket, _)| *bucket < frame.start) {
                let place = (bucket.0 - frame.earliest.0) as usize;
                // Of traffic that of all versions counts, those that nothing is compared with too.
                served[place] += flow::weight(cell);
                if roles(*bucket) != Some(Role::Before) {
                    continue;
                }
                novelty.past(cell);
                if cell.requests > 0 {
                    cells.push((*bucket, series.key.age, cell));
                    let (bad, all) = counted[place].unwrap_or_default();
                    counted[place] = Some((bad + cell.errors as f64, all + cell.requests as f64));
                }
            }
            if !cells.is_empty() {
                let name = frame.operation(&series.key, Role::Before);
                past.entry((name, series.key.kind)).or_default().append(&mut cells);
            }
        }
        let counted = counted.into_iter().zip(frame.earliest.0..);
        let counted = counted.filter_map(|(sums, bucket)| sums.map(|(bad, all)| (Bucket(bucket), bad, all)));
        Self { past, counted: counted.collect(), served }
    }
}
