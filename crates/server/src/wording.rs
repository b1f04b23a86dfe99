//! What a deserializer complains of, in the words in which everything else here is said.

use crate::nearest::nearest;

/// Says what a value is and has to be, where the library speaks of its own types; what is not known is said as it stands.
pub(crate) fn worded(said: &str) -> String {
    let said = without_place(said);
    if let Some(name) = said.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return format!("`{name}` is missing");
    }
    if let Some(rest) = said.strip_prefix("unknown variant `") {
        // What is written is between the first two backticks, what is known between the others.
        let mut names = rest.split('`').step_by(2);
        let written = names.next().unwrap_or_default();
        let known: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        let meant = nearest(written, &known).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
        return format!("must be {}, found `{written}`{meant}", alternatives(&known));
    }
    let wrong = said.strip_prefix("invalid type: ").or_else(|| said.strip_prefix("invalid value: "));
    match wrong.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => format!("must be {}, found {}", wanted(expected), given(found)),
        None => said.to_owned(),
    }
}

/// Leaves out the place in a text that is only one line.
fn without_place(said: &str) -> &str {
    match said.rsplit_once(" at line 1 column ") {
        Some((before, column)) if column.bytes().all(|byte| byte.is_ascii_digit()) => before,
        _ => said,
    }
}

fn alternatives(all: &[String]) -> String {
    match all {
        [] => "something else".to_owned(),
        [one] => one.clone(),
        [some @ .., last] => format!("{} or {last}", some.join(", ")),
    }
}

/// Names what was wanted.
fn wanted(expected: &str) -> &str {
    match expected {
        "a sequence" | "a tuple" => "a list",
        "a map" => "a section",
        "a string" | "a borrowed string" | "string or map" => "text",
        "a boolean" => "`true` or `false`",
        "f64" | "f32" => "a number",
        "i64" | "i32" | "u64" | "u32" | "u16" | "usize" => "a whole number",
        _ if expected.starts_with("struct ") => "a section of settings",
        _ if expected.starts_with("data did not match any variant") => "something else",
        _ => expected,
    }
}

/// Names what was found.
fn given(found: &str) -> String {
    for (kind, name) in [("string \"", "`"), ("integer `", "the number `"), ("floating point `", "the number `")] {
        if let Some(value) = found.strip_prefix(kind) {
            return format!("{name}{}`", value.trim_end_matches(['"', '`']));
        }
    }
    match found {
        "null" => "nothing".to_owned(),
        "map" => "a section".to_owned(),
        "sequence" => "a list".to_owned(),
        _ => found.strip_prefix("boolean ").unwrap_or(found).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_said_in_words_of_this_program() {
        for (said, words) in [
            (
                "unknown variant `webhok`, expected one of `webhook`, `pagerduty`, `slack`",
                "must be `webhook`, `pagerduty` or `slack`, found `webhok`; did you mean `webhook`?",
            ),
            (
                "unknown variant `over`, expected `running` or `failed` at line 1 column 16",
                "must be `running` or `failed`, found `over`",
            ),
            ("invalid type: string \"prod\", expected a sequence", "must be a list, found `prod`"),
            ("invalid type: boolean `true`, expected a string", "must be text, found `true`"),
            ("invalid type: string \"x\", expected struct SinkConfig", "must be a section of settings, found `x`"),
            ("invalid type: integer `7`, expected a string at line 1 column 4", "must be text, found the number `7`"),
            ("invalid type: map, expected a string", "must be text, found a section"),
            ("missing field `keep`", "`keep` is missing"),
            ("`7x` is not a duration, for instance `10s`", "`7x` is not a duration, for instance `10s`"),
        ] {
            assert_eq!(worded(said), words);
        }
    }
}
