//! One operation of the deployed service, folded bucket by bucket.

use plimsoll_model::Bucket;
use plimsoll_model::signal::{AgeClass, Histogram, OperationCell, OperationKind};

use crate::alone::AloneTest;
use crate::calls::{CallCounts, CallTests};
use crate::calm::Calm;
use crate::closeness::Expected;
use crate::counts::{Counted, Counts, Edges, nearest_shift, shift_of, summed};
use crate::culprit::Arm;
use crate::dealing::Dealing;
use crate::design::Role;
use crate::dispersion::Measure;
use crate::errors::ErrorTest;
use crate::failing::Failing;
use crate::forgone::Forgone;
use crate::incident::{self, Incident, Incidents, Outlasting};
use crate::known::Known;
use crate::latency::{EDGE_COUNT_MIN, LatencyTest};
use crate::memo::Memos;
use crate::recent::Recent;
use crate::settling::{self, Point};
use crate::slot::{ByAge, Look, Pair, Past, Slots};
use crate::tally::Tally;
use crate::tolerances::Tolerances;
use crate::unanswered::{Others, Outages};
use crate::witnesses::Testimonies;
use crate::zones::Zones;

/// Buckets since the candidate's first after which nothing is young any more.
pub(crate) const YOUNG_BUCKETS: u64 = 30;

/// Buckets whose mean says how slow the candidate was at first.
const EARLIEST: usize = 6;

/// Share of an incident's share of bad requests from which on others resemble it.
const RESEMBLES: f64 = 1.0 / 3.0;
/// Buckets for which they last longer than it did before they are more than it was.
const MARGIN: u64 = 3;

/// Failures of which it has to be known where they began where that is known of a share only.
const DRAWN_MIN: f64 = 8.0;
/// Buckets after which the traces of one are closed.
const SETTLED: u64 = 3;

/// Requests of the candidate that one of the control stands for at most: what is held against fewer is held against nothing.
const STANDS_FOR: f64 = 20.0;
/// Requests of the candidate for each that the control ever had, from which the control hardly had the operation.
const HARDLY: u64 = 4;

/// One operation in both arms.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) kind: OperationKind,
    /// Name that the control has for it, where the candidate renamed it.
    pub(crate) former: Option<String>,
    /// What is left out of the time before.
    pub(crate) incidents: Incidents,
    /// Requests of the control before the start, and of both arms since.
    pub(crate) before: u64,
    pub(crate) candidate: u64,
    pub(crate) control: u64,
    /// Requests of the candidate that have a control, and enough of it, and of those beside it.
    pub(crate) paired: u64,
    pub(crate) beside: u64,
    pub(crate) ages_differ: bool,
    /// True once young instances were held against older ones.
    pub(crate) young: bool,
    pub(crate) errors: ErrorTest,
    pub(crate) latency: Option<LatencyTest>,
    pub(crate) alone: AloneTest,
    pub(crate) calls: CallTests,
    pub(crate) zones: Zones,
    pub(crate) recent: Vec<Recent>,
    /// Failed and all requests by role and age, for telling rates from mix.
    pub(crate) pooled: [[(f64, f64); 3]; 3],
    /// Traces of the candidate, of the control since the start and of the time before.
    pub(crate) arms: [Arm; 3],
    /// Calls of the candidate that nobody answered.
    pub(crate) outages: Outages,
    /// Calls that it did not make.
    pub(crate) forgone: Forgone,
    /// Its calls beside those of others to the same callees.
    pub(crate) testimony: Testimonies,
    /// What it did while none of its callees was in trouble.
    pub(crate) calm: Calm,
    /// Of how many of its requests it is known whom they called.
    pub(crate) known: Known,
    slots: Slots,
    past: Past,
    /// Latency that will fix the edges, where the past was too short.
    waiting: Histogram,
    /// Sum, sum of squares and number of the control's logarithms of latency.
    usual_log: [f64; 3],
}

/// Cells of one bucket, with the age class at which they are compared.
pub(crate) type Cells<'a> = Vec<(AgeClass, &'a OperationCell)>;

/// What a bucket is folded with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) look: Look,
    /// The candidate's first bucket.
    pub(crate) first: Option<Bucket>,
    /// Dispersion of all operations together.
    pub(crate) others: Measure,
    /// The control's share of failed requests over the whole service, before the bucket.
    pub(crate) expected: Expected,
    /// For how many times its requests the time before the start counts.
    pub(crate) past_weight: f64,
    /// Requests of others to those that the service calls.
    pub(crate) calling_too: &'a Others,
    pub(crate) failing: &'a Failing,
    pub(crate) tolerances: &'a Tolerances,
}

impl Operation {
    /// Starts from the control's cells before the start, ascending.
    pub(crate) fn new(
        name: String,
        kind: OperationKind,
        before: &[(Bucket, AgeClass, &OperationCell)],
        dealing: Dealing,
        tolerances: &Tolerances,
    ) -> Self {
        let all = before;
        let incidents = Incidents::of(all, dealing.start, dealing.incidents.errors);
        let dealing = dealing.without(incidents);
        let mut history = Tally::default();
        let counts = |bucket: Bucket| !incidents.contain(bucket);
        all.iter().filter(|cell| counts(cell.0)).for_each(|(.., cell)| history.add(&cell.latency));
        let history = history.histogram();
        let enough = history.count() >= EDGE_COUNT_MIN;
        let edges = if enough { Edges::of(&history, tolerances) } else { None };
        let mut before: Vec<Counted<'_>> =
            all.iter().map(|(bucket, age, cell)| (*bucket, *age, *cell, Counts::of(cell, edges.as_ref()))).collect();
        let with_incidents = incidents.any().then(|| summed(&before));
        before.retain(|cell| counts(cell.0));
        let buckets = summed(&before);
        let mut past = Past::new(dealing.after);
        let young_requests: u64 = before.iter().filter(|c| c.1 != AgeClass::Warm).map(|c| c.2.requests).sum();
        let requests: u64 = before.iter().map(|c| c.2.requests).sum();
        let mostly_young = young_requests * 2 > requests;
        let mut traces = Arm::default();
        let mut calls = CallCounts::default();
        let mut usual_log = [0.0; 3];
        let mut pooled = [[(0.0, 0.0); 3]; 3];
        // Nearest to the start first, as portions are dealt out.
        let mut dealt: Vec<(u64, AgeClass, Counts)> = Vec::new();
        for (bucket, age, cell, counts) in &before {
            add_logs(&mut usual_log, counts);
            traces.add(cell);
            calls.add(cell);
            pool(&mut pooled[Role::Before as usize], *age, cell);
            if *age != AgeClass::Warm && !mostly_young {
                past.young[*age as usize].push_back(*counts);
                continue;
            }
            dealt.extend(dealing.portion(*bucket).map(|portion| (portion, *age, *counts)));
        }
        let watch = tolerances.watch_max_s / 10;
        dealt.iter().rev().filter(|d| d.0 <= watch).for_each(|(portion, age, counts)| past.add(*portion, *age, counts));
        let whole = with_incidents.as_ref().unwrap_or(&buckets);
        let errors = |of: &[Counts]| of.iter().map(|c| (c.errors, c.requests)).collect::<Vec<(f64, f64)>>();
        Self {
            name,
            kind,
            former: None,
            incidents,
            before: requests,
            candidate: 0,
            control: 0,
            paired: 0,
            beside: 0,
            ages_differ: false,
            young: false,
            errors: ErrorTest::outside(&errors(&buckets), &errors(whole)),
            latency: edges.map(|edges| LatencyTest::new(edges, &buckets, whole)),
            alone: AloneTest::default(),
            calls: CallTests::new(calls),
            zones: Zones::new(dealing.zone, before.iter().map(|(_, _, cell, _)| *cell)),
            recent: Vec::new(),
            pooled,
            arms: [Arm::default(), Arm::default(), traces],
            outages: Outages::default(),
            forgone: Forgone::default(),
            testimony: Testimonies::default(),
            calm: Calm::default(),
            known: Known::default(),
            slots: Slots::default(),
            past,
            waiting: if enough { Histogram::default() } else { history },
            usual_log,
        }
    }

    /// Takes one bucket of both arms; either may be empty.
    pub(crate) fn push(&mut self, moment: &Moment<'_>, candidate: &Cells<'_>, control: &Cells<'_>, memos: &mut Memos) {
        if self.latency.is_none() {
            control.iter().for_each(|(_, cell)| self.waiting.merge(&cell.latency));
        }
        let edges = self.latency.as_ref().map(|latency| latency.edges);
        let beside = moment.look.beside;
        let explained =
            self.zones.push(candidate.iter().map(|(_, cell)| *cell), control.iter().map(|(_, cell)| *cell), beside);
        let excused = if beside { 0 } else { shift_of(moment.look.excused.latency) };
        let excused = excused.saturating_add(nearest_shift(explained.slower));
        let (mut b, mut a) = (ByAge::default(), ByAge::default());
        let (mut all_b, mut all_a) = (Counts::default(), Counts::default());
        for (age, cell) in candidate {
            let counts = Counts::excused(cell, edges.as_ref(), excused);
            b[*age as usize].add(&counts);
            all_b.add(&counts);
        }
        for (age, cell) in control {
            let mut counts = Counts::of(cell, edges.as_ref());
            all_a.add(&counts);
            let [errors, requests] = self.zones.weights(cell);
            (counts.errors, counts.requests) = (errors * counts.errors, requests * counts.requests);
            a[*age as usize].add(&counts);
        }
        self.candidate += all_b.requests as u64;
        self.control += all_a.requests as u64;
        add_logs(&mut self.usual_log, &all_a);
        if all_b.requests > 0.0 {
            let blamed: u64 = candidate.iter().flat_map(|(_, cell)| cell.blame.values()).sum();
            self.remember(moment.look, &all_b, blamed);
        }
        for (role, cells) in [(Role::Candidate, candidate), (Role::Control, control)] {
            for (age, cell) in cells {
                self.arms[role as usize].add(cell);
                pool(&mut self.pooled[role as usize], *age, cell);
            }
        }
        let of_candidate = candidate.iter().map(|(_, cell)| *cell);
        self.known.push(of_candidate.clone());
        self.outages.push(moment.look.bucket, of_candidate.clone(), moment.calling_too);
        let before = &self.arms[Role::Before as usize];
        self.testimony.push(moment.look.bucket, of_candidate.clone(), before, &moment.calling_too.witnesses);
        if moment.failing.broken(moment.look.bucket).next().is_none() {
            let in_reach = !self.outages.is_near(moment.look.bucket);
            self.calm.push(of_candidate.clone(), &self.arms[Role::Before as usize], moment.failing.caller(), in_reach);
        }
        self.forgone.push(moment.look.bucket, of_candidate, &[&self.arms[0], &self.arms[2]], moment.failing);
        let calls = |cells: &Cells<'_>| {
            let mut counts = CallCounts::default();
            cells.iter().for_each(|(_, cell)| counts.add(cell));
            counts
        };
        let share = 1.0 / (moment.tolerances.watch_max_s / 10).max(1) as f64;
        if candidate.iter().any(|(_, cell)| cell.assembled > 0) {
            self.calls.push(moment.look.bucket, &calls(candidate), &calls(control), share, moment.tolerances);
        }
        if self.is_alone() {
            let usual = self.usual_errors(moment.expected.usual);
            self.alone.push(moment.look.bucket, all_b.errors, all_b.requests, usual, moment.tolerances);
        }
        let (slots, past) = (&mut self.slots, &mut self.past);
        let mut pairs = Vec::new();
        slots.push(moment.look, [&b, &a], past, &mut |pair| pairs.push(pair));
        self.errors.weigh_past(moment.past_weight);
        for mut pair in pairs {
            if !pair.side_by_side {
                pair.control.requests = (pair.control.requests * moment.past_weight).max(pair.control.errors);
            }
            // As many as it would have had in the candidate's zones.
            pair.excused.points += explained.points;
            self.compare(&pair, moment, memos);
        }
        if self.latency.is_none() && self.waiting.count() >= EDGE_COUNT_MIN {
            let edges = Edges::of(&self.waiting, moment.tolerances);
            self.latency = edges.map(|edges| LatencyTest::new(edges, &[], &[]));
            self.waiting = Histogram::default();
        }
    }

    fn compare(&mut self, pair: &Pair, moment: &Moment<'_>, memos: &mut Memos) {
        let n = pair.candidate.requests.min(STANDS_FOR * pair.control.requests) as u64;
        self.paired += n;
        self.beside += if pair.side_by_side { n } else { 0 };
        self.ages_differ |= !pair.same_age;
        self.young |= !pair.same_age && pair.age != AgeClass::Warm;
        let Memos { shrinkage, nearest } = memos;
        let stratum = self.errors.push_with(pair, moment.others, shrinkage, moment.tolerances);
        self.errors.push_health(&stratum, moment.expected, nearest, moment.tolerances);
        if let Some(latency) = &mut self.latency {
            latency.push(pair, moment.first, shrinkage, moment.tolerances);
        }
    }

    fn remember(&mut self, look: Look, all: &Counts, blamed: u64) {
        self.recent.push(Recent {
            bucket: look.bucket,
            requests: all.requests as f32,
            errors: all.errors as f32,
            blamed: blamed as f32,
            timed: all.timed as f32,
            tail: all.tail.map(|n| n as f32),
            log_mean: (all.log_sum / all.requests) as f32,
            beside: look.beside,
        });
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let traces: usize = self.arms.iter().map(|arm| 200 * (arm.blame.len() + arm.callees.len())).sum();
        let kept =
            self.recent.len() * size_of::<Recent>() + self.errors.bytes() + self.past.bytes() + self.zones.bytes();
        let calls = self.calls.bytes() + self.outages.bytes() + self.forgone.bytes() + self.testimony.bytes();
        size_of::<Self>() + self.name.len() + kept + traces + calls
    }

    /// Returns the bucket from which on what the candidate counts shows more than an `incident` before the start that it resembles: as
    /// that might have come again by itself, it has to last longer. `None` where it resembles none: by far less, from the
    /// candidate's first minute on, or beside a control that goes on.
    pub(crate) fn outlasts(
        &self,
        incident: Incident,
        (first, to): (Option<Bucket>, Bucket),
        of: impl Fn(&Recent) -> (f32, f32),
    ) -> Option<Outlasting> {
        let first = first?;
        if 2 * self.beside > self.paired {
            return None;
        }
        let counted: Vec<incident::Counted> = self
            .recent
            .iter()
            .take_while(|recent| recent.bucket <= to)
            .map(|recent| {
                let (bad, all) = of(recent);
                (recent.bucket, f64::from(bad), f64::from(all))
            })
            .collect();
        let worst = incident::largest(&counted, RESEMBLES * incident.share);
        let inside = &counted[worst.from..worst.to];
        let from = inside.first()?.0;
        let sum =
            |of: &[incident::Counted]| of.iter().fold((0.0, 0.0), |sum, (_, bad, all)| (sum.0 + bad, sum.1 + all));
        (from.0 >= first.0 + EARLIEST as u64)
            .then(|| Outlasting { from: Bucket(from.0 + incident.buckets() + MARGIN), inside: sum(inside) })
    }

    /// Says whether it is known of most failures that the candidate has in excess where they began; true where it calls nobody.
    ///
    /// Failures count as soon as their spans are there, and where they began is known once their traces are closed, seconds later. Where traces were
    /// `drawn` a few tell of all.
    pub(crate) fn is_traced(&self, drawn: bool) -> bool {
        if self.arms.iter().all(|arm| arm.callees.is_empty()) {
            return true;
        }
        // Of how many failures it is ever known: of all, unless spans are sampled or traces are never whole.
        let blamed: u64 = self.arms[Role::Before as usize].blame.values().sum();
        let failed: f64 = self.pooled[Role::Before as usize].iter().map(|(errors, _)| errors).sum();
        let usual = if failed > 0.0 { (blamed as f64 / failed).min(1.0) } else { 1.0 };
        let reference = self.errors.reference();
        let (mut traced, mut all, mut blamed, mut settled) = (0.0, 0.0, 0.0, 0.0);
        let latest = self.recent.last().map_or(0, |recent| recent.bucket.0);
        let each = self.known.each(drawn);
        for recent in &self.recent {
            let more = f64::from(recent.errors) - reference * f64::from(recent.requests);
            all += more;
            settled += if recent.bucket.0 + SETTLED <= latest { more } else { 0.0 };
            blamed += f64::from(recent.blamed) - reference * f64::from(recent.requests) / each;
            let is_traced = 2.0 * f64::from(recent.blamed) >= usual * f64::from(recent.errors);
            traced += if is_traced { more } else { 0.0 };
        }
        match self.known.is_share(drawn) {
            _ if all <= 0.0 => true,
            // Those of which it would be known by now never will be: as where the ones that fail last too long.
            true => blamed >= DRAWN_MIN || settled >= 2.0 * DRAWN_MIN * each,
            false => 2.0 * traced >= all,
        }
    }

    /// Says whether the candidate has hardly anything to be compared with: the control never had the operation, or so seldom that
    /// most requests found none of the control's. What is said depends on numbers of requests alone.
    pub(crate) fn is_alone(&self) -> bool {
        let control = self.before + self.control;
        control == 0 || (self.candidate > HARDLY * control && 2 * self.paired < self.candidate)
    }

    /// Returns the share of failed requests that is usual for it, the service's being `usual`: what the control showed of it, be it
    /// little, is held against nobody.
    pub(crate) fn usual_errors(&self, usual: f64) -> f64 {
        usual.max(self.errors.reference())
    }

    /// The instances are no longer young: what they showed until now does not count, unless it was confirmed.
    pub(crate) fn grow_up(&mut self) {
        if let Some(latency) = self.latency.as_mut().filter(|latency| latency.standing.confirmed_at.is_none())
            && self.young
        {
            latency.begin_anew();
        }
    }

    /// Says whether the candidate's mean latency exceeds the control's by half of what is tolerated.
    pub(crate) fn grew_on_average(&self) -> bool {
        let Some(latency) = &self.latency else { return false };
        let [usual, _, n] = self.usual_log;
        let told = self.recent.iter().filter(|recent| recent.log_mean > 0.0);
        let (sum, requests) = told.fold((0.0, 0.0), |sum, recent| {
            let n = f64::from(recent.requests);
            (sum.0 + n * f64::from(recent.log_mean), sum.1 + n)
        });
        n > 0.0 && requests > 0.0 && (sum / requests - usual / n).exp() - 1.0 > 0.5 * (latency.edges.scale - 1.0)
    }

    /// Says whether a growth of latency stays, as far as young instances show by `now`; true where nothing is young.
    pub(crate) fn stays_slow(&self, first: Option<Bucket>, now: Bucket, weight: f64) -> bool {
        let (Some(latency), Some(first)) = (&self.latency, first) else { return true };
        if !self.young || now.0.saturating_sub(first.0) >= YOUNG_BUCKETS {
            return true;
        }
        let phi = latency.standing.dispersion;
        let at_s = |recent: &Recent| 10.0 * (recent.bucket.0 - first.0) as f64 + 5.0;
        let shares = latency.tail_shares();
        let tail = |i: usize| -> Vec<Point> {
            let timed = self.recent.iter().filter(|recent| recent.timed > 0.0);
            timed
                .map(|recent| {
                    let (hits, n) = (f64::from(recent.tail[i]), f64::from(recent.timed));
                    let smooth = (hits + 1.0) / (n + 2.0);
                    Point { at_s: at_s(recent), value: hits / n, variance: phi * smooth * (1.0 - smooth) / n }
                })
                .collect()
        };
        let threshold = 0.5 * (latency.edges.scale - 1.0);
        let [sum, squares, n] = self.usual_log;
        if n <= 1.0 {
            return (0..2).any(|i| settling::remains(&tail(i), shares[i], weight));
        }
        // The growth itself fades exponentially; its logarithm and shares above an edge do so only while they are small.
        let usual = sum / n;
        let spread = phi * (squares / n - usual * usual).max(1e-3);
        let body: Vec<Point> = self
            .recent
            .iter()
            .filter(|recent| recent.log_mean > 0.0)
            .map(|recent| {
                let error = spread / f64::from(recent.requests);
                // The mean of few logarithms is no less likely to be high than low, its exponential is.
                let growth = (f64::from(recent.log_mean) - usual - 0.5 * error).exp();
                let variance = growth * growth * error.min(20.0).exp_m1();
                Point { at_s: at_s(recent), value: growth - 1.0, variance }
            })
            .collect();
        let mean = |points: &[Point]| points.iter().map(|p| p.value).sum::<f64>() / points.len().max(1) as f64;
        // A tail that grew while the body never did is not warming up as a whole.
        if mean(&body) > 0.5 * threshold || mean(&body[..body.len().min(EARLIEST)]) > threshold {
            return settling::remains(&body, threshold, weight);
        }
        (0..2).any(|i| settling::remains(&tail(i), shares[i], weight))
    }
}

fn pool(sums: &mut [(f64, f64); 3], age: AgeClass, cell: &OperationCell) {
    let sum = &mut sums[age as usize];
    *sum = (sum.0 + cell.errors as f64, sum.1 + cell.requests as f64);
}

fn add_logs(sums: &mut [f64; 3], counts: &Counts) {
    if counts.log_sum > 0.0 {
        sums[0] += counts.log_sum;
        sums[1] += counts.log_sum_sq;
        sums[2] += counts.requests;
    }
}
