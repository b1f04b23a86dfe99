//! Settings of a session: those that do something, those that are fixed, and those that are only remembered.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sqlstate::Problem;
use crate::config::parse_duration;

/// Settings with one value, which a client may only set to what it is.
const FIXED: &[(&str, &str)] = &[
    ("server_version", plimsoll_query::postgres::SERVER_VERSION),
    ("server_version_num", "150000"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("integer_datetimes", "on"),
    ("is_superuser", "off"),
    ("bytea_output", "hex"),
    ("intervalstyle", "postgres"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("transaction_read_only", "on"),
    ("default_transaction_read_only", "on"),
    ("in_hot_standby", "off"),
];

/// Settings that are remembered and shown, and change nothing, with their defaults.
const REMEMBERED: &[(&str, &str)] = &[
    ("application_name", ""),
    ("search_path", "\"$user\", public"),
    ("timezone", "UTC"),
    ("datestyle", "ISO, MDY"),
    ("extra_float_digits", "1"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("client_min_messages", "notice"),
    ("transaction_isolation", "read committed"),
    ("default_transaction_isolation", "read committed"),
    ("row_security", "on"),
    ("jit", "off"),
    ("work_mem", "4MB"),
    ("geqo", "on"),
    ("synchronize_seqscans", "on"),
    ("force_parallel_mode", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("enable_seqscan", "on"),
    ("session_authorization", "plimsoll"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
];

/// What a client is told of when it starts, and when it changes.
pub(super) const REPORTED: &[(&str, &str)] = &[
    ("server_version", "server_version"),
    ("server_encoding", "server_encoding"),
    ("client_encoding", "client_encoding"),
    ("application_name", "application_name"),
    ("is_superuser", "is_superuser"),
    ("session_authorization", "session_authorization"),
    ("DateStyle", "datestyle"),
    ("IntervalStyle", "intervalstyle"),
    ("TimeZone", "timezone"),
    ("integer_datetimes", "integer_datetimes"),
    ("standard_conforming_strings", "standard_conforming_strings"),
    ("default_transaction_read_only", "default_transaction_read_only"),
    ("in_hot_standby", "in_hot_standby"),
];

/// Longest value that is remembered.
const VALUE_BYTES_MAX: usize = 256;

/// The settings of one session.
#[derive(Debug, Default)]
pub(super) struct Settings {
    set: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Sets `name`, or gives it its default back. Returns a notice where what was asked for is not what happens.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) -> Result<Option<Problem>, Problem> {
        if name == "all" && value.is_none() {
            self.set.clear();
            return Ok(None);
        }
        // Names with a point belong to extensions and applications: anything goes, and nothing is kept.
        if name.contains('.') {
            return Ok(None);
        }
        if let Some((_, fixed)) = FIXED.iter().find(|(known, _)| *known == name) {
            let plain = |text: &str| text.to_ascii_lowercase().replace('-', "");
            return match value {
                Some(value) if plain(value) != plain(fixed) && !same_switch(value, fixed) => Err(Problem::error(
                    "22023",
                    format!(
                        "`{name}` is `{fixed}` here and cannot be `{}`",
                        value.chars().take(64).collect::<String>()
                    ),
                )),
                _ => Ok(None),
            };
        }
        let Some((known, _)) = REMEMBERED.iter().find(|(known, _)| *known == name) else {
            return Err(Problem::error("42704", format!("there is no setting `{name}`")).hint("`SHOW ALL` lists them"));
        };
        let Some(value) = value else {
            self.set.remove(known);
            return Ok(None);
        };
        if value.len() > VALUE_BYTES_MAX {
            return Err(Problem::error(
                "22023",
                format!("the value of `{name}` is longer than {VALUE_BYTES_MAX} bytes"),
            ));
        }
        let value = value.trim_matches('\'');
        let mut notice = None;
        match *known {
            "statement_timeout" => {
                timeout(value).ok_or_else(|| {
                    Problem::error("22023", format!("`{value}` is no time for `statement_timeout`"))
                        .hint("give milliseconds, or for instance `'5s'`")
                })?;
            }
            "datestyle" if !value.to_ascii_lowercase().starts_with("iso") => {
                return Err(Problem::error("22023", "dates are written in ISO style only"));
            }
            "timezone"
                if !["utc", "gmt", "etc/utc", "z", "uct", "0"].contains(&value.to_ascii_lowercase().as_str()) =>
            {
                // Clients set their own zone without being asked to: to refuse would keep them out.
                notice = Some(Problem::warning("times are given in UTC, with their offset"));
                self.set.remove(known);
                return Ok(notice);
            }
            "timezone" => {
                self.set.remove(known);
                return Ok(None);
            }
            _ => {}
        }
        self.set.insert(known, value.to_owned());
        Ok(notice)
    }

    /// Returns the value of `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let fixed = FIXED.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        fixed.or_else(|| {
            let (known, default) = REMEMBERED.iter().find(|(known, _)| *known == name)?;
            Some(self.set.get(known).map_or(*default, String::as_str))
        })
    }

    /// Returns every name with its value.
    pub(super) fn all(&self) -> Vec<(&'static str, &str)> {
        let mut all: Vec<_> =
            FIXED.iter().chain(REMEMBERED).map(|(name, _)| (*name, self.get(name).unwrap_or_default())).collect();
        all.sort_unstable();
        all
    }

    /// Returns how long a statement may take, where the client set that.
    pub(super) fn statement_timeout(&self) -> Option<Duration> {
        timeout(self.set.get("statement_timeout")?).filter(|timeout| !timeout.is_zero())
    }
}

fn same_switch(value: &str, fixed: &str) -> bool {
    let on = |text: &str| ["on", "true", "1", "yes"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let off = |text: &str| ["off", "false", "0", "no"].iter().any(|word| text.eq_ignore_ascii_case(word));
    (on(value) && on(fixed)) || (off(value) && off(fixed)) || (fixed == "UTF8" && value.eq_ignore_ascii_case("unicode"))
}

fn timeout(text: &str) -> Option<Duration> {
    match text.trim().parse::<u64>() {
        Ok(millis) => Some(Duration::from_millis(millis)),
        Err(_) => parse_duration(&text.replace("min", "m").replace(' ', "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_in_milliseconds_and_with_units() {
        let mut settings = Settings::default();
        for (text, wanted) in [("250", 250), ("5s", 5_000), ("1min", 60_000), ("0", 0)] {
            settings.set("statement_timeout", Some(text)).expect("a time");
            let told = settings.statement_timeout().map_or(0, |timeout| timeout.as_millis());
            assert_eq!(told, wanted, "{text}");
        }
        assert!(settings.set("statement_timeout", Some("soon")).is_err());
    }

    #[test]
    fn what_cannot_change_says_so_and_what_is_unknown_too() {
        let mut settings = Settings::default();
        assert_eq!(settings.set("client_encoding", Some("utf-8")), Ok(None));
        assert_eq!(settings.set("client_encoding", Some("LATIN1")).map_err(|problem| problem.code), Err("22023"));
        assert_eq!(settings.set("no_such", Some("1")).map_err(|problem| problem.code), Err("42704"));
        assert!(settings.set("timezone", Some("Europe/Berlin")).expect("taken").is_some());
        assert_eq!(settings.get("timezone"), Some("UTC"));
    }
}
