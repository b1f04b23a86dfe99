//! The words that verdicts share.

use std::collections::BTreeSet;

use plimsoll_model::Design;
pub(crate) use plimsoll_model::sentence::grouped;

use crate::explain::exception_name;
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::measured::FORMER;

/// Names the control.
pub(crate) fn against(input: &JudgeInput, design: Design, versions: &BTreeSet<String>) -> String {
    let only = versions.first().filter(|version| versions.len() == 1 && !version.is_empty());
    match (design, only, &input.flag) {
        (Design::Concurrent, Some(variant), Some(_)) => format!("with {variant}"),
        (Design::Concurrent, None, Some(_)) => "with the other variants".to_owned(),
        (Design::Concurrent, Some(version), None) if *version == FORMER && input.deploy.previous_version.is_none() => {
            "on the pods that were there before".to_owned()
        }
        (Design::Concurrent, Some(version), None) => format!("on {version}"),
        (Design::Concurrent, None, None) => "on the other versions".to_owned(),
        (Design::Slo, ..) => "that are tolerated".to_owned(),
        _ => "before the deploy".to_owned(),
    }
}

/// Says which fatal error was never logged before, how often it is now, and of how many others that is true; `None` where there is
/// none.
pub(crate) fn fatal(fold: &Fold) -> Option<String> {
    let found = fold.new_fatals();
    let most = found.first()?;
    let times = if most.count == 1 { "once".to_owned() } else { format!("{} times", grouped(most.count)) };
    let others = match found.len() - 1 {
        0 => String::new(),
        1 => " and one other".to_owned(),
        more => format!(" and {more} others"),
    };
    Some(format!("logged the fatal error {} {times}{others}, never seen before", exception_name("", &most.message)))
}
