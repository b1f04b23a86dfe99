//! `plimsoll check-config`: names every problem of a file.

use std::path::Path;
use std::process::ExitCode;

use super::output;
use super::{Failure, Outcome};
use crate::config::{Config, Environment, Overrides};

pub(super) fn run(file: &Path) -> Outcome {
    let environment = Environment::default();
    let checked = Config::load(Some(file), &Overrides::default(), &|name| environment.get(name));
    for problem in environment.unread() {
        output::warn(&problem);
    }
    match checked {
        Ok(_) => {
            output::line(&format!("`{}` is a valid configuration", file.display()));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(Failure::failed(error.to_string())),
    }
}
