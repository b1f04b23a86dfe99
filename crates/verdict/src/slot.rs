//! Which observations of the control stand against which of the candidate.
//!
//! A slot gathers both arms of one operation until each has something, then turns into strata, one for each instance age
//! that both have; what is left of the control goes, once, to the largest of what is left of the candidate. In buckets where
//! the control does not serve, the time before the start takes its place, dealt out in portions in reverse order.
//!
//! *Invariants.* A control observation serves in at most one stratum. When a slot ends depends on numbers of requests and on
//! time only, never on outcomes, and only on the past: a stratum never changes once it is there.

use std::collections::VecDeque;

use plimsoll_model::Bucket;
use plimsoll_model::signal::AgeClass;

use crate::counts::Counts;

/// Buckets after which a slot that lacks an arm is given up.
const WIDTH_MAX: u64 = 6;

/// Counts by age class.
pub(crate) type ByAge = [Counts; 3];

/// One stratum with all its counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    /// Last bucket of the candidate's observations.
    pub(crate) bucket: Bucket,
    pub(crate) age: AgeClass,
    /// True where the control's instances are of the same age.
    pub(crate) same_age: bool,
    /// True where both served at the same time.
    pub(crate) side_by_side: bool,
    pub(crate) candidate: Counts,
    pub(crate) control: Counts,
}

/// The time before the start, to be dealt out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    /// Portions, nearest to the start first.
    pub(crate) portions: Vec<ByAge>,
    /// Cold and warming instances of former versions, oldest first: the control of young ones.
    pub(crate) young: [VecDeque<Counts>; 2],
    /// Buckets after the start that share one portion.
    pub(crate) after: u64,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    beside: bool,
    from: u64,
    portion: u64,
    candidate: ByAge,
    control: ByAge,
}

/// The slot of one operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots {
    open: Option<Open>,
}

const AGES: [AgeClass; 3] = [AgeClass::Cold, AgeClass::Warming, AgeClass::Warm];

impl Slots {
    /// Takes one bucket, `since` buckets after the first, and gives the strata that it completes to `emit`.
    pub(crate) fn push(
        &mut self,
        bucket: Bucket,
        since: u64,
        beside: bool,
        arms: [&ByAge; 2],
        past: &mut Past,
        emit: &mut impl FnMut(Pair),
    ) {
        let portion = since / past.after.max(1);
        if let Some(open) = self.open
            && (open.beside != beside || (!beside && open.portion != portion))
        {
            self.open = None;
            finish(open, Bucket(bucket.0 - 1), past, emit);
        }
        let empty = ByAge::default();
        let mut open =
            self.open.take().unwrap_or(Open { beside, from: bucket.0, portion, candidate: empty, control: empty });
        let [candidate, control] = arms;
        for age in 0..AGES.len() {
            open.candidate[age].add(&candidate[age]);
            if beside {
                open.control[age].add(&control[age]);
            }
        }
        let served = |arm: &ByAge| arm.iter().any(|counts| counts.requests > 0.0);
        let complete = if beside {
            served(&open.candidate) && served(&open.control)
        } else {
            (since + 1).is_multiple_of(past.after.max(1))
        };
        if complete {
            finish(open, bucket, past, emit);
        } else if !beside || bucket.0 + 1 < open.from + WIDTH_MAX {
            self.open = Some(open);
        } else {
            // What the candidate did alone has no control; but instances of its age may have served before.
            open.control = empty;
            finish(open, bucket, past, emit);
        }
    }
}

fn finish(mut open: Open, bucket: Bucket, past: &mut Past, emit: &mut impl FnMut(Pair)) {
    if !open.beside
        && let Some(portion) = usize::try_from(open.portion).ok().and_then(|at| past.portions.get_mut(at))
    {
        open.control = std::mem::take(portion);
    }
    let mut unmatched: Option<(AgeClass, Counts)> = None;
    let mut left = Counts::default();
    for (age, class) in AGES.into_iter().enumerate() {
        let (candidate, control) = (open.candidate[age], open.control[age]);
        let pair = |control: Counts, side_by_side: bool| Pair {
            bucket,
            age: class,
            same_age: true,
            side_by_side,
            candidate,
            control,
        };
        if candidate.requests > 0.0 && control.requests > 0.0 {
            emit(pair(control, open.beside));
        } else if candidate.requests > 0.0 {
            let young = past.young.get_mut(age).and_then(VecDeque::pop_front);
            match young {
                Some(young) => emit(pair(young, false)),
                None if unmatched.is_none_or(|(_, most)| most.requests < candidate.requests) => {
                    unmatched = Some((class, candidate));
                }
                None => {}
            }
        } else {
            left.add(&control);
        }
    }
    if let Some((age, candidate)) = unmatched
        && left.requests > 0.0
    {
        emit(Pair { bucket, age, same_age: false, side_by_side: open.beside, candidate, control: left });
    }
}
