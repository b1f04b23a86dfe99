//! What commands print. Colour only on a terminal, and never where `NO_COLOR` is set.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// A few colours with a meaning.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tone {
    /// All is well.
    Good,
    /// Something is wrong.
    Bad,
    /// Undecided.
    Open,
    /// Less important.
    Faint,
    /// More important.
    Strong,
}

fn coloured(to_terminal: bool) -> bool {
    to_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Colours `text` for standard output.
pub(crate) fn paint(tone: Tone, text: &str) -> String {
    if !coloured(io::stdout().is_terminal()) {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Open => "33",
        Tone::Faint => "2",
        Tone::Strong => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// Prints one line. A reader that went away is not an error.
pub(crate) fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints an error.
pub(crate) fn complain(message: &str) {
    let prefix = if coloured(io::stderr().is_terminal()) { "\u{1b}[31merror:\u{1b}[0m" } else { "error:" };
    let _ = writeln!(io::stderr(), "{prefix} {message}");
}

/// Prints what does not keep a command from its end and should be known all the same.
pub(crate) fn warn(message: &str) {
    let prefix = if coloured(io::stderr().is_terminal()) { "\u{1b}[33mwarning:\u{1b}[0m" } else { "warning:" };
    let _ = writeln!(io::stderr(), "{prefix} {message}");
}

/// Prints one JSON document.
pub(crate) fn json(value: &Value) {
    line(&serde_json::to_string_pretty(value).unwrap_or_else(|error| error.to_string()));
}

/// Lays rows out as a table.
pub(crate) fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table.add_rows(rows);
    table.to_string()
}

/// Returns a JSON value as the text of a table cell.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Prints advice for a human: to standard error, and only where one is looking.
pub(crate) fn hint(text: &str) {
    if io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "{text}");
    }
}
