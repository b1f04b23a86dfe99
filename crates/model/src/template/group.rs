//! Templates that differ only in words which turn out to vary.
//!
//! Drain (He et al., ICWS 2017) decides line by line, so that its groups depend on the order of lines. Here the whole set is
//! looked at: a position varies where many different words stand in it while everything else is the same. The set of
//! templates alone decides, in whatever order they come.
//!
//! *Cost.* O(n * words) hashes for one varying word and, for the templates that are left, O(n * words^2) for two.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::VARIABLE;

/// So many templates at most are looked at for two varying words at once.
const PAIRS_MAX: usize = 2_000;
/// Templates with more words are only compared word by word.
const PAIR_WORDS_MAX: usize = 24;

/// Returns the group of each template, in the same order: the template itself, or one with more of it varying.
pub fn group(templates: &[&str]) -> Vec<String> {
    let mut current: Vec<Vec<&str>> = templates.iter().map(|text| text.split(' ').collect()).collect();
    // Each round may make templates alike that were not before.
    for _ in 0..4 {
        let singles = vary_one(&mut current);
        let pairs = vary_two(&mut current);
        if !singles && !pairs {
            break;
        }
    }
    current.into_iter().map(|words| join(&words)).collect()
}

/// Joins words to a template; variables side by side are one.
pub fn join(words: &[&str]) -> String {
    let mut text = String::new();
    let mut before = "";
    for word in words {
        if *word == VARIABLE && before == VARIABLE {
            continue;
        }
        if !text.is_empty() || !before.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
        before = word;
    }
    text
}

/// A hash of the words, with those at `left_out` left out. The same in every process.
fn hash_without(words: &[&str], left_out: [usize; 2]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3Default::new();
    hash.update(&(words.len() as u64).to_le_bytes());
    for (at, word) in words.iter().enumerate() {
        if !left_out.contains(&at) {
            hash.update(&(word.len() as u64).to_le_bytes());
            hash.update(word.as_bytes());
        }
    }
    for at in left_out {
        hash.update(&(at as u64).to_le_bytes());
    }
    hash.digest()
}

/// How much is constant beside the position.
fn constants(words: &[&str], left_out: [usize; 2]) -> usize {
    words.iter().enumerate().filter(|(at, word)| !left_out.contains(at) && is_constant(word)).count()
}

fn is_constant(word: &str) -> bool {
    !word.contains(VARIABLE) && word.bytes().any(|b| b.is_ascii_alphabetic())
}

/// So many different words prove that a position varies, by how much else is the same.
fn enough(constants: usize) -> usize {
    match constants {
        0 => usize::MAX,
        1 => 12,
        2 => 6,
        3 => 4,
        _ => 3,
    }
}

/// Words that tell outcomes apart are never taken for values, however alike the rest is.
fn tells(word: &str) -> bool {
    const TELLING: [&str; 60] = [
        "start",
        "started",
        "starting",
        "stop",
        "stopped",
        "stopping",
        "open",
        "opened",
        "opening",
        "close",
        "closed",
        "closing",
        "succeeded",
        "success",
        "successful",
        "successfully",
        "fail",
        "failed",
        "failing",
        "failure",
        "error",
        "finished",
        "completed",
        "complete",
        "done",
        "begin",
        "end",
        "ended",
        "created",
        "deleted",
        "updated",
        "removed",
        "added",
        "accepted",
        "rejected",
        "refused",
        "allowed",
        "denied",
        "enabled",
        "disabled",
        "connected",
        "disconnected",
        "acquired",
        "released",
        "expired",
        "timeout",
        "cancelled",
        "canceled",
        "retrying",
        "received",
        "sent",
        "sending",
        "receiving",
        "not",
        "no",
        "up",
        "down",
        "info",
        "warn",
        "warning",
    ];
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    TELLING.iter().any(|telling| word.eq_ignore_ascii_case(telling))
}

fn may_vary(word: &str) -> bool {
    !tells(word)
}

fn vary_one(current: &mut [Vec<&str>]) -> bool {
    let mut seen: HashMap<u64, (usize, BTreeSet<&str>)> = HashMap::new();
    for words in current.iter() {
        for at in 0..words.len() {
            if !may_vary(words[at]) {
                continue;
            }
            let left_out = [at, usize::MAX];
            let entry = seen
                .entry(hash_without(words, left_out))
                .or_insert_with(|| (enough(constants(words, left_out)), BTreeSet::new()));
            entry.1.insert(words[at]);
        }
    }
    let mut changed = false;
    for words in current.iter_mut() {
        // Decided for all positions before any is changed, so that their order does not matter.
        let varying: Vec<usize> = (0..words.len())
            .filter(|at| words[*at] != VARIABLE && may_vary(words[*at]))
            .filter(|at| {
                let (enough, values) = &seen[&hash_without(words, [*at, usize::MAX])];
                values.len() >= *enough || (values.len() > 1 && *enough < usize::MAX && values.contains(VARIABLE))
            })
            .collect();
        changed |= !varying.is_empty();
        varying.iter().for_each(|at| words[*at] = VARIABLE);
    }
    changed
}

fn vary_two(current: &mut [Vec<&str>]) -> bool {
    let distinct: BTreeMap<Vec<&str>, usize> = current.iter().cloned().zip(0..).collect();
    if distinct.len() > PAIRS_MAX {
        return false;
    }
    let mut seen: HashMap<u64, (usize, BTreeSet<&str>, BTreeSet<&str>)> = HashMap::new();
    let pairs = |words: &[&str]| -> Vec<[usize; 2]> {
        if words.len() > PAIR_WORDS_MAX {
            return Vec::new();
        }
        let free: Vec<usize> = (0..words.len()).filter(|at| words[*at] != VARIABLE && may_vary(words[*at])).collect();
        free.iter().flat_map(|one| free.iter().filter(move |two| *two > one).map(move |two| [*one, *two])).collect()
    };
    for words in distinct.keys() {
        for pair in pairs(words) {
            let constants = constants(words, pair);
            if constants < 2 {
                continue;
            }
            let (_, ones, twos) =
                seen.entry(hash_without(words, pair)).or_insert_with(|| (constants, BTreeSet::new(), BTreeSet::new()));
            ones.insert(words[pair[0]]);
            twos.insert(words[pair[1]]);
        }
    }
    let mut changed = false;
    for words in current.iter_mut() {
        let varying: Vec<[usize; 2]> = pairs(words)
            .into_iter()
            .filter(|pair| {
                seen.get(&hash_without(words, *pair)).is_some_and(|(constants, ones, twos)| {
                    let needed = enough(*constants) + 2;
                    ones.len() >= needed && twos.len() >= needed
                })
            })
            .collect();
        changed |= !varying.is_empty();
        varying.iter().flatten().for_each(|at| words[*at] = VARIABLE);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_to_vary_and_outcomes_are_not() {
        let lines = [
            "user ann logged in from home",
            "user bob logged in from home",
            "user eve logged in from home",
            "user joe logged in from home",
            "connection to db opened",
            "connection to db closed",
            "disk is full",
        ];
        let groups = group(&lines);
        assert_eq!(groups[..4], ["user <*> logged in from home"; 4]);
        assert_eq!(groups[4..], lines[4..]);
    }

    #[test]
    fn two_words_may_vary_at_once() {
        let names = ["ann", "bob", "eve", "joe", "kim", "lee", "max", "sam"];
        let lines: Vec<String> =
            (0..8).map(|i| format!("user {} opened a session on {}", names[i], names[7 - i])).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(group(&lines), ["user <*> opened a session on <*>"; 8]);
    }

    #[test]
    fn the_order_of_the_templates_does_not_matter() {
        let lines: Vec<String> = (b'a'..b'q')
            .map(|c| format!("job {} moved to queue {}", char::from(c), if c % 2 == 0 { "hot" } else { "cold" }))
            .collect();
        let forward: Vec<&str> = lines.iter().map(String::as_str).collect();
        let backward: Vec<&str> = forward.iter().rev().copied().collect();
        let mut turned = group(&backward);
        turned.reverse();
        assert_eq!(group(&forward), turned);
    }
}
