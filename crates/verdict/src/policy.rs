//! Which service is held to which tolerances.
//!
//! The settings for all come first; then each rule that fits, in the order in which they were written. A later rule
//! overrides an earlier one setting by setting, so the general stands before the particular.

use std::time::Duration;

use plimsoll_model::ServiceKey;
use plimsoll_model::service::names;

use crate::tolerances::Tolerances;

/// Tolerances for all services, and where they differ.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TolerancePolicy {
    /// For every service that no rule is about.
    pub usual: Tolerances,
    /// What differs, in order.
    pub rules: Vec<ToleranceRule>,
}

/// What differs for some services.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToleranceRule {
    /// Name of the service, or its beginning followed by `*`; every service where it is not given.
    pub service: Option<String>,
    /// Its namespace, likewise.
    pub namespace: Option<String>,
    /// Its environment, likewise.
    pub environment: Option<String>,
    /// Settings by name; see [`Tolerances::KEYS`].
    pub settings: Vec<(String, f64)>,
}

impl ToleranceRule {
    /// Says whether it is about `service`.
    pub fn fits(&self, service: &ServiceKey) -> bool {
        let fits = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| names(wanted, name));
        fits(&self.service, &service.service)
            && fits(&self.namespace, &service.namespace)
            && fits(&self.environment, &service.environment)
    }
}

impl From<Tolerances> for TolerancePolicy {
    fn from(usual: Tolerances) -> Self {
        Self { usual, rules: Vec::new() }
    }
}

impl TolerancePolicy {
    /// Returns what `service` is held to.
    pub fn of(&self, service: &ServiceKey) -> Tolerances {
        let mut tolerances = self.usual.clone();
        for rule in self.rules.iter().filter(|rule| rule.fits(service)) {
            apply(&mut tolerances, rule);
        }
        tolerances
    }

    /// Returns the longest that any deploy is looked at.
    pub fn watch_max(&self) -> Duration {
        self.longest("watch_max_s", self.usual.watch_max_s)
    }

    /// Returns the longest time before a deploy that any is compared with.
    pub fn lookback_max(&self) -> Duration {
        self.longest("lookback_s", self.usual.lookback_s)
    }

    fn longest(&self, setting: &str, usual: u64) -> Duration {
        let rules = self.rules.iter().flat_map(|rule| &rule.settings).filter(|(key, _)| key == setting);
        let longest = rules.map(|(_, value)| *value).fold(usual as f64, f64::max);
        Duration::from_secs_f64(longest.clamp(0.0, 1e9))
    }

    /// Lists every setting that makes no sense, with the place where it stands under `path`.
    pub fn problems(&self, path: &str) -> Vec<String> {
        let mut problems: Vec<String> =
            self.usual.problems().into_iter().map(|problem| format!("`{path}.tolerances`: {problem}")).collect();
        for (at, rule) in self.rules.iter().enumerate() {
            let mut tolerances = self.usual.clone();
            let refused = apply(&mut tolerances, rule);
            // What is wrong with the settings for all is told there.
            let own = tolerances.problems().into_iter().filter(|problem| !self.usual.problems().contains(problem));
            problems
                .extend(refused.into_iter().chain(own).map(|problem| format!("`{path}.services[{at}]`: {problem}")));
        }
        problems
    }
}

fn apply(tolerances: &mut Tolerances, rule: &ToleranceRule) -> Vec<String> {
    rule.settings.iter().filter_map(|(key, value)| tolerances.set(key, *value).err()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_can_be_set_by_its_name() {
        let written = serde_json::to_value(Tolerances::default()).expect("serialises");
        let names: std::collections::BTreeSet<&str> =
            written.as_object().expect("a map").keys().map(String::as_str).collect();
        assert_eq!(names, Tolerances::KEYS.into_iter().collect());
        let mut tolerances = Tolerances::default();
        for key in Tolerances::KEYS {
            tolerances.set(key, 7.0).expect("it exists");
        }
        let set = serde_json::to_value(&tolerances).expect("serialises");
        assert!(set.as_object().expect("a map").values().all(|value| value.as_f64() == Some(7.0)), "{set}");
        assert!(tolerances.set("watch_min_s", 1.5).is_err() && tolerances.set("nonsense", 1.0).is_err());
    }

    #[test]
    fn later_rules_override_earlier_ones_setting_by_setting() {
        let rule = |service: &str, environment: Option<&str>, settings: &[(&str, f64)]| ToleranceRule {
            service: Some(service.to_owned()),
            environment: environment.map(str::to_owned),
            settings: settings.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect(),
            ..ToleranceRule::default()
        };
        let policy = TolerancePolicy {
            usual: Tolerances::default(),
            rules: vec![
                rule("pay*", None, &[("error_points", 0.001), ("latency_ratio", 0.5)]),
                rule("payment", Some("prod"), &[("error_points", 0.0005), ("watch_max_s", 7_200.0)]),
            ],
        };
        let of = |environment: &str, service: &str| policy.of(&ServiceKey::new(environment, service));
        assert_eq!(of("prod", "cart"), Tolerances::default());
        assert_eq!(of("stage", "payment").error_points, 0.001);
        let both = of("prod", "payment");
        assert_eq!((both.error_points, both.latency_ratio, both.watch_max_s), (0.0005, 0.5, 7_200));
        assert_eq!(policy.watch_max(), Duration::from_secs(7_200));
        assert!(policy.problems("watch").is_empty());
        let wrong = TolerancePolicy { rules: vec![rule("cart", None, &[("alpha", 7.0)])], ..policy };
        let problems = wrong.problems("watch");
        assert!(problems.len() == 1 && problems[0].starts_with("`watch.services[0]`: `alpha` is 7"), "{problems:?}");
    }
}
