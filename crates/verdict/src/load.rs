//! How much more a service has to do: what a rush uses up is no deploy's doing.
//!
//! A level that goes with the work that comes in (of a processor, of a queue) may grow as the requests of the same minutes do. Requests are counted in all and
//! by value of the metric, and the smaller growth counts: where instances are added as traffic grows, each has no more to do than before.
//!
//! What piles up while others disturb the service is worked off afterwards: a level that falls from minute to minute tells nothing yet.

use crate::design::Role;
use crate::metrics::Served;
use crate::moves::Minute;

/// For how many times the disturbance's length its leavings may be worked off.
const WORKED_OFF: u64 = 3;
/// Times the lowest level since up to which it does not rise: it wanders.
const STEADY: f64 = 1.3;

/// What piled up in minutes that others disturbed, and is worked off.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Drain {
    /// First and last minute of the disturbance, and the lowest level since its last minute.
    disturbed: Option<(u64, u64)>,
    level: f64,
}

impl Drain {
    /// Takes a minute that others disturbed.
    pub(crate) fn fill(&mut self, minute: &Minute) {
        let from = self.disturbed.map_or(minute.minute, |(from, _)| from);
        (self.disturbed, self.level) = (Some((from, minute.minute)), minute.readings[0].0);
    }

    /// Says whether a later minute still works off what had piled up; once one does not, none does.
    pub(crate) fn goes_on(&mut self, minute: &Minute) -> bool {
        let level = minute.readings[0].0;
        let goes_on = self.disturbed.is_some_and(|(from, to)| {
            level <= STEADY * self.level && minute.minute - to <= WORKED_OFF * (to + 1 - from)
        });
        (self.level, self.disturbed) = (level.min(self.level), self.disturbed.filter(|_| goes_on));
        goes_on
    }
}

/// Returns by what part of itself a level may have grown from one window to another.
pub(crate) fn grown(served: &Served, window: &[Minute], reference: &[Minute]) -> f64 {
    let requests = |minute: &Minute| {
        let roles = [Role::Candidate, Role::Control, Role::Before];
        roles.into_iter().filter_map(|role| served[role as usize].get(&minute.minute)).sum::<f64>()
    };
    let sums = |window: &[Minute]| {
        let all: f64 = window.iter().map(requests).sum();
        let values: f64 = window.iter().map(|minute| minute.readings[0].1).sum();
        [all / window.len().max(1) as f64, all / values.max(1.0)]
    };
    let (now, then) = (sums(window), sums(reference));
    if then[0] <= 0.0 {
        return 0.0;
    }
    (now[0] / then[0]).min(now[1] / then[1]).max(1.0) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window of two minutes with so many requests and values in each.
    fn window(served: &mut Served, at: u64, requests: f64, values: f64) -> [Minute; 2] {
        [at, at + 1].map(|minute| {
            served[Role::Candidate as usize].insert(minute, requests);
            Minute { minute, readings: [(0.5, values); 2] }
        })
    }

    #[test]
    fn what_piled_up_is_worked_off_as_long_as_it_falls_and_no_longer_than_thrice_the_disturbance() {
        let minute = |minute: u64, level: f64| Minute { minute, readings: [(level, 1.0); 2] };
        let mut drain = Drain::default();
        assert!(!drain.goes_on(&minute(1, 10.0)), "nobody disturbed it");
        (2..4).for_each(|at| drain.fill(&minute(at, 100.0 * at as f64)));
        let falls =
            |drain: &mut Drain, at: u64| drain.goes_on(&minute(at, 310.0 - 10.0 * at as f64 + 30.0 * (at % 2) as f64));
        let mut whole = drain;
        assert_eq!((4..14).filter(|at| falls(&mut whole, *at)).collect::<Vec<u64>>(), [4, 5, 6, 7, 8, 9]);
        assert!(falls(&mut drain, 4) && !drain.goes_on(&minute(5, 400.0)), "it rises again");
        assert!(!falls(&mut drain, 6), "what rose once is its own");
    }

    #[test]
    fn a_level_may_grow_as_the_requests_for_each_of_its_values_do() {
        let mut served = Served::default();
        let before = window(&mut served, 1, 100.0, 4.0);
        let rush = window(&mut served, 11, 250.0, 4.0);
        let scaled = window(&mut served, 21, 250.0, 10.0);
        let silent = [Minute { minute: 31, ..before[0] }; 2];
        assert!((grown(&served, &rush, &before) - 1.5).abs() < 1e-9);
        assert!(grown(&served, &scaled, &before).abs() < 1e-9, "each instance does what it did");
        assert!(grown(&served, &before, &rush).abs() < 1e-9, "less to do excuses nothing");
        assert!(grown(&served, &rush, &silent).abs() < 1e-9, "nobody knows what there was to do");
    }
}
