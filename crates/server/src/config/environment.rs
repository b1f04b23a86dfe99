//! `PLIMSOLL_*` variables, and those of them that nobody reads: most likely a slip of the pen.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::nearest::nearest;

const PREFIX: &str = "PLIMSOLL_";
/// What the command line reads.
const OF_THE_COMMAND_LINE: [&str; 3] = ["PLIMSOLL_API", "PLIMSOLL_CONFIG", "PLIMSOLL_TOKEN"];

/// The environment of this process, which remembers what it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    asked: RefCell<BTreeSet<String>>,
}

impl Environment {
    /// Looks up a variable.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.asked.borrow_mut().insert(name.to_owned());
        std::env::var(name).ok()
    }

    /// Returns a sentence for each variable that looks like a setting and that nobody asked for.
    pub(crate) fn unread(&self) -> Vec<String> {
        let present = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        unread(present, &self.asked.borrow())
    }
}

/// Returns a sentence for each of the variables `present` that looks like a setting and is not among those `asked` for.
fn unread(present: impl Iterator<Item = String>, asked: &BTreeSet<String>) -> Vec<String> {
    let known: Vec<&str> = asked.iter().filter_map(|name| name.strip_prefix(PREFIX)).collect();
    let mut names: Vec<String> = present
        .filter(|name| name.starts_with(PREFIX) && !asked.contains(name))
        .filter(|name| !OF_THE_COMMAND_LINE.contains(&name.as_str()) && !is_of_a_service(name))
        .collect();
    names.sort_unstable();
    names
        .iter()
        .map(|name| match nearest(&name[PREFIX.len()..], &known) {
            Some(meant) => format!("`{name}` sets nothing; did you mean `{PREFIX}{meant}`?"),
            None => {
                format!("`{name}` sets nothing: the setting `query.timeout`, for instance, is `PLIMSOLL_QUERY_TIMEOUT`")
            }
        })
        .collect()
}

/// Kubernetes tells each container of the services beside it, and ours may well be called `plimsoll`.
fn is_of_a_service(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST") || name.contains("_PORT")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    #[test]
    fn slips_are_named_and_what_kubernetes_sets_is_not() {
        let asked = RefCell::new(BTreeSet::new());
        let env = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            None
        };
        Config::load(None, &Overrides::default(), &env).expect("the defaults are valid");
        let present = [
            "PLIMSOLL_STORE_RETENTON",
            "PLIMSOLL_QUERY_TIMEOUT",
            "PLIMSOLL_LISTEN_POSTGRES",
            "PLIMSOLL_WATCH_TOLERANCES_LATENCY_RATIO",
            "PLIMSOLL_CONFIG",
            "PLIMSOLL_SERVICE_HOST",
            "PLIMSOLL_SERVICE_PORT",
            "PLIMSOLL_PORT",
            "PLIMSOLL_PORT_4317_TCP_ADDR",
            "PLIMSOLL_COLOUR_OF_THE_SHED",
            "PATH",
        ];
        let said = unread(present.map(str::to_owned).into_iter(), &asked.borrow());
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("`PLIMSOLL_COLOUR_OF_THE_SHED` sets nothing:"), "{said:?}");
        assert_eq!(said[1], "`PLIMSOLL_STORE_RETENTON` sets nothing; did you mean `PLIMSOLL_STORE_RETENTION`?");
    }
}
