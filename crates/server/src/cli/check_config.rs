//! `plimsoll check-config`: names every problem of a file.

use std::path::Path;
use std::process::ExitCode;

use super::output;
use super::{Failure, Outcome};
use crate::config::{Config, Overrides};

pub(super) fn run(file: &Path) -> Outcome {
    match Config::load(Some(file), &Overrides::default(), &|name| std::env::var(name).ok()) {
        Ok(_) => {
            output::line(&format!("`{}` is a valid configuration", file.display()));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(Failure::failed(error.to_string())),
    }
}
