//! From the text of a configuration file to a tree of values: YAML, then `${env:NAME:-default}`.

use serde_json::Value;

use super::reader::Env;

/// Parses YAML and fills in environment variables in every scalar. What could not be filled in is a problem, and counts as not
/// set, so that the rest can be checked all the same; of a list the whole item is left out.
///
/// # Errors
/// The YAML error with its line.
pub(super) fn parse(text: &str, env: Env<'_>, problems: &mut Vec<String>) -> Result<Value, Vec<String>> {
    if text.trim().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    // Only `true` and `false` are truth values: the names `on`, `no` and `y` are as good as any.
    let options = serde_saphyr::options! { strict_booleans: true };
    let mut tree: Value =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| vec![complaint(&error)])?;
    substitute_all(&mut tree, env, problems);
    Ok(tree)
}

/// Says what is wrong with the text in words of this file: the library's own speak of options of the library.
fn complaint(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key, location } => {
            let key = key.as_ref().map_or_else(|| "a key".to_owned(), |key| format!("`{key}`"));
            format!("{key} stands twice in one section, again on line {}: write it once", location.line())
        }
        _ => format!("this is not valid YAML: {error}"),
    }
}

fn substitute_all(value: &mut Value, env: Env<'_>, problems: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains('$') => match substitute(text, env) {
            Ok(filled) => *text = filled,
            Err(problem) => {
                problems.push(problem);
                *value = Value::Null;
            }
        },
        Value::Array(items) => items.retain_mut(|item| {
            let before = problems.len();
            substitute_all(item, env, problems);
            problems.len() == before
        }),
        Value::Object(map) => map.values_mut().for_each(|item| substitute_all(item, env, problems)),
        _ => {}
    }
}

/// Replaces each `${env:NAME}` and `${env:NAME:-default}`; `$$` stands for one dollar sign, as in the Collector.
fn substitute(text: &str, env: Env<'_>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = after.find('}').ok_or_else(|| format!("`{text}` opens `${{` and never closes it"))?;
            filled.push_str(&lookup(&after[..end], env)?);
            rest = &after[end + 1..];
        } else {
            filled.push('$');
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn lookup(reference: &str, env: Env<'_>) -> Result<String, String> {
    let Some(name) = reference.strip_prefix("env:") else {
        return Err(format!("`${{{reference}}}` is not known: write `${{env:NAME}}` or `${{env:NAME:-default}}`"));
    };
    let (name, default) = match name.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (name, None),
    };
    env(name).or_else(|| default.map(str::to_owned)).ok_or_else(|| {
        format!("the environment variable `{name}` is not set: set it, or give a default with `${{env:{name}:-..}}`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        (name == "SECRET").then(|| "s3cret".to_owned())
    }

    #[test]
    fn variables_are_filled_in_with_defaults_and_escapes() {
        let text = "a: x-${env:SECRET}-y\nb: ${env:NONE:-fallback}\nc: $${env:SECRET}\nd: [1, '$5', 'a$$b']";
        let mut problems = Vec::new();
        let tree = parse(text, &env, &mut problems).expect("is YAML");
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(tree["a"], "x-s3cret-y");
        assert_eq!(tree["b"], "fallback");
        assert_eq!(tree["c"], "${env:SECRET}");
        assert_eq!((&tree["d"][1], &tree["d"][2]), (&Value::from("$5"), &Value::from("a$b")));
    }

    #[test]
    fn every_missing_variable_is_named_and_the_rest_is_kept() {
        let mut problems = Vec::new();
        let text = "a: ${env:ONE}\nb: ${env:TWO}\nc: ${file:/x}\nd: ${env:OPEN\ne: 1\nf: [{x: '${env:TWO:-2}'}]";
        let tree = parse(text, &env, &mut problems).expect("is YAML");
        assert_eq!(tree, serde_json::json!({"a": null, "b": null, "c": null, "d": null, "e": 1, "f": [{"x": "2"}]}));
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].contains("`ONE`") && problems[1].contains("`TWO`"), "{problems:?}");
    }

    #[test]
    fn a_key_that_stands_twice_is_named_with_its_line() {
        for (text, said) in [
            (
                "query:\n  timeout: 1s\nstore: {}\nquery:\n  threads: 1\n",
                "`query` stands twice in one section, again on line 4",
            ),
            ("query:\n  timeout: 1s\n  timeout: 2s\n", "`timeout` stands twice in one section, again on line 3"),
        ] {
            let problems = parse(text, &env, &mut Vec::new()).expect_err("which of the two counts?");
            assert_eq!(problems, [format!("{said}: write it once")]);
        }
    }

    #[test]
    fn words_that_were_truth_values_once_are_names() {
        let tree = parse("name: on\nenvironments: [no, y]\nflag: true", &env, &mut Vec::new()).expect("is YAML");
        assert_eq!(tree, serde_json::json!({"name": "on", "environments": ["no", "y"], "flag": true}));
    }

    #[test]
    fn bad_yaml_says_where() {
        let problems = parse("a: [1, 2\nb: 3", &env, &mut Vec::new()).expect_err("not YAML");
        assert!(problems[0].contains("not valid YAML") && problems[0].contains("line"), "{problems:?}");
    }
}
