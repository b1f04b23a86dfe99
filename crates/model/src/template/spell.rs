//! The text of a skeleton: variables that only punctuation parts are one, and so are a date's words beside one.

use super::{MARK, VARIABLE};

const DATES: [&[u8]; 19] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec", b"Mon", b"Tue",
    b"Wed", b"Thu", b"Fri", b"Sat", b"Sun",
];

/// Appends the template that a skeleton stands for.
pub fn append_spelt(skeleton: &[u8], out: &mut String) {
    let begin = out.len();
    let mut after_variable = false;
    let mut rest = skeleton;
    loop {
        let mark = rest.iter().position(|byte| *byte == MARK);
        let between = &rest[..mark.unwrap_or(rest.len())];
        let joins = mark.is_some() && !between.is_empty() && (is_glue(between) || is_date(between));
        // Nothing but glue up to the next variable makes them one; a date may begin the line.
        let left_out = joins && (after_variable || (out.len() == begin && is_date(between)));
        if !between.is_empty() && !left_out {
            // Whole characters only: marks stand between characters, and nothing else was taken out of the text.
            out.push_str(&String::from_utf8_lossy(between));
            after_variable = false;
        }
        let Some(mark) = mark else { return };
        if !after_variable {
            out.push_str(VARIABLE);
        }
        after_variable = true;
        rest = &rest[mark + 1..];
    }
}

fn glues(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b':' | b';' | b'.' | b'-' | b'/' | b'_' | b'+' | b'#' | b'|')
}

fn is_glue(between: &[u8]) -> bool {
    between.iter().all(glues)
}

fn is_date(between: &[u8]) -> bool {
    between.split(glues).all(|word| word.is_empty() || DATES.contains(&word)) && !is_glue(between)
}
