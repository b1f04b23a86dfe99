//! Which observations of the control stand against which of the candidate.
//!
//! A slot gathers both arms of one operation until each has something, then turns into strata, one for each instance age
//! that both have; what is left of the control goes, once, to the largest of what is left of the candidate. In buckets where
//! the control does not serve, the time before the start takes its place, dealt out in portions in reverse order; where
//! nothing happened in a portion the slot waits for the next that has any, or takes it ahead of time once it has requests
//! enough: a batch at the full hour meets the batch before, from its beginning on. The time before also stands where the control ends, or is not met
//! for a minute, while a slot waits for it.
//!
//! *Invariants.* A control observation serves in at most one stratum. When a slot ends depends on numbers of requests and on
//! time only, never on outcomes, and only on the past: a stratum never changes once it is there.

use std::collections::VecDeque;

use plimsoll_model::Bucket;
use plimsoll_model::signal::AgeClass;

use crate::counts::{Counts, QUANTILES};
use crate::drift::Excused;

/// Buckets after which a slot that lacks an arm is given up.
const WIDTH_MAX: u64 = 6;

/// Requests of the candidate that wait for no portion: the next that has any is theirs, ahead of time.
const ENOUGH: f64 = 50.0;

/// Counts by age class.
pub(crate) type ByAge = [Counts; 3];

/// Portions without anything that end a burst, and portions in a longer one than that it is no burst.
const GAP: u32 = 3;
const BURST_MAX: u64 = 30;

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
    /// What time alone explains, where they did not.
    pub(crate) excused: Excused,
    pub(crate) candidate: Counts,
    pub(crate) control: Counts,
}

/// The time before the start, to be dealt out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    /// Portions, nearest to the start first; of each what it has by age.
    portions: VecDeque<Portion>,
    /// Cold and warming instances of former versions, oldest first: the control of young ones.
    pub(crate) young: [VecDeque<Counts>; 2],
    /// Buckets after the start that share one portion.
    pub(crate) after: u64,
    /// Up to this portion bursts were turned round.
    turned: Option<u32>,
}

/// What a control counts, of one portion and age, in little space.
#[derive(Debug, Clone, Copy)]
struct Portion {
    index: u32,
    age: u8,
    requests: f32,
    errors: f32,
    timed: f32,
    above: [f32; QUANTILES.len()],
}

impl Past {
    /// Starts empty; `after` buckets since the start share a portion.
    pub(crate) fn new(after: u64) -> Self {
        Self { after, ..Self::default() }
    }

    /// Adds to a portion; portions have to ascend or repeat.
    pub(crate) fn add(&mut self, index: u64, age: AgeClass, counts: &Counts) {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let same = self.portions.iter_mut().rev().take_while(|p| p.index == index).find(|p| p.age == age as u8);
        let portion = match same {
            Some(portion) => portion,
            None => {
                self.portions.push_back(Portion {
                    index,
                    age: age as u8,
                    requests: 0.0,
                    errors: 0.0,
                    timed: 0.0,
                    above: [0.0; QUANTILES.len()],
                });
                self.portions.back_mut().expect("just put there")
            }
        };
        portion.requests += counts.requests as f32;
        portion.errors += counts.errors as f32;
        portion.timed += counts.timed as f32;
        portion.above.iter_mut().zip(counts.above).for_each(|(sum, n)| *sum += n as f32);
    }

    /// Takes all portions up to `index`.
    fn take(&mut self, index: u64) -> ByAge {
        let mut taken = ByAge::default();
        while let Some(portion) = self.portions.front().filter(|p| u64::from(p.index) <= index) {
            let counts = &mut taken[usize::from(portion.age)];
            counts.requests += f64::from(portion.requests);
            counts.errors += f64::from(portion.errors);
            counts.timed += f64::from(portion.timed);
            counts.above.iter_mut().zip(portion.above).for_each(|(sum, n)| *sum += f64::from(n));
            self.portions.pop_front();
        }
        taken
    }

    /// Turns the next burst round, once: a few portions without a gap, and one after them. What is taken ahead of time comes as it came
    /// then, its first part against the first.
    fn turn(&mut self) {
        let Some(first) = self.portions.front().map(|portion| portion.index) else { return };
        if self.turned.is_some_and(|turned| first <= turned) {
            return;
        }
        let mut last = first;
        let within = self.portions.iter().take_while(|portion| {
            let near = portion.index - last <= GAP;
            last = if near { portion.index } else { last };
            near
        });
        let count = within.count();
        self.turned = Some(last);
        if u64::from(last - first) >= BURST_MAX {
            return;
        }
        let burst = &mut self.portions.make_contiguous()[..count];
        burst.iter_mut().for_each(|portion| portion.index = first + last - portion.index);
        burst.sort_by_key(|portion| portion.index);
    }

    /// Says whether it is not worth waiting for: a portion up to `index` is there, or none will come.
    fn is_ready(&self, index: u64) -> bool {
        self.next().is_none_or(|next| next <= index)
    }

    /// Returns the next portion that has any.
    fn next(&self) -> Option<u64> {
        self.portions.front().map(|portion| u64::from(portion.index))
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let young: usize = self.young.iter().map(VecDeque::len).sum();
        self.portions.len() * size_of::<Portion>() + young * size_of::<Counts>()
    }
}

/// The bucket that is taken, and how its observations are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) bucket: Bucket,
    /// Buckets since the first that counts.
    pub(crate) since: u64,
    /// True where the control serves beside.
    pub(crate) beside: bool,
    /// What time alone explains, where it does not.
    pub(crate) excused: Excused,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    beside: bool,
    excused: Excused,
    from: u64,
    portion: u64,
    candidate: ByAge,
    control: ByAge,
}

/// The slot of one operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots {
    open: Option<Open>,
    /// Requests of the candidate that took portions ahead of time since one was there in time. As many more are to come before
    /// the next is taken, so that the time before is not used up where it merely has a gap.
    ahead: f64,
}

const AGES: [AgeClass; 3] = [AgeClass::Cold, AgeClass::Warming, AgeClass::Warm];

impl Slots {
    /// Takes one bucket and gives the strata that it completes to `emit`.
    pub(crate) fn push(&mut self, look: Look, arms: [&ByAge; 2], past: &mut Past, emit: &mut impl FnMut(Pair)) {
        let Look { bucket, since, beside, excused } = look;
        let portion = since / past.after.max(1);
        let served = |arm: &ByAge| arm.iter().any(|counts| counts.requests > 0.0);
        if let Some(open) = self.open.as_mut().filter(|open| open.beside && !beside && !served(&open.control)) {
            // The control ended before the slot met any: it goes on against the time before.
            open.beside = false;
        }
        if let Some(open) = self.open
            && (open.beside != beside || (!beside && open.portion != portion && past.is_ready(open.portion)))
        {
            self.open = None;
            finish(open, Bucket(bucket.0 - 1), past, emit);
        }
        let empty = ByAge::default();
        let mut open = self.open.take().unwrap_or(Open {
            beside,
            excused,
            from: bucket.0,
            portion,
            candidate: empty,
            control: empty,
        });
        open.excused = excused;
        open.portion = portion;
        let [candidate, control] = arms;
        for age in 0..AGES.len() {
            open.candidate[age].add(&candidate[age]);
            if beside {
                open.control[age].add(&control[age]);
            }
        }
        let complete = if beside {
            served(&open.candidate) && served(&open.control)
        } else {
            let ends = (since + 1).is_multiple_of(past.after.max(1));
            let requests: f64 = open.candidate.iter().map(|counts| counts.requests).sum();
            if past.is_ready(portion) {
                self.ahead = if ends { 0.0 } else { self.ahead };
                ends
            } else if ends && requests >= self.ahead.max(ENOUGH) {
                self.ahead += requests;
                past.turn();
                open.portion = past.next().unwrap_or(portion);
                true
            } else {
                false
            }
        };
        if complete {
            finish(open, bucket, past, emit);
        } else if !beside || bucket.0 + 1 < open.from + WIDTH_MAX {
            self.open = Some(open);
        } else {
            // The control did nothing while the candidate did: the time before stands for it. Or nothing is to be compared.
            open.beside = served(&open.control);
            open.control = empty;
            finish(open, bucket, past, emit);
        }
    }
}

fn finish(mut open: Open, bucket: Bucket, past: &mut Past, emit: &mut impl FnMut(Pair)) {
    if !open.beside {
        open.control = past.take(open.portion);
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
            excused: if side_by_side { Excused::default() } else { open.excused },
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
        let excused = if open.beside { Excused::default() } else { open.excused };
        emit(Pair { bucket, age, same_age: false, side_by_side: open.beside, excused, candidate, control: left });
    }
}
