//! Log templates: a message with `<*>` for what varies, so that like messages fall together.
//!
//! [`template`] looks at one message alone, so that it gives the same text in every process and order. It takes for
//! variable: whatever has a digit in it, quoted text, paths and addresses, values after `=`, values of JSON, and the words
//! `true`, `false` and `null`. Runs of variables become one, so that lists and dates of any length are alike. What a
//! message says stays: the values of `msg`, `message`, `event`, `error` and `level`, in logfmt and JSON, are looked into.
//! Variables that look like words are left to [`group`], which sees many templates at once.
//!
//! *Cost.* One pass over at most [`MESSAGE_BYTES_MAX`] bytes; nothing is allocated but the text that is appended to.

mod group;

pub use group::{group, join};

/// What stands for a variable.
pub const VARIABLE: &str = "<*>";
/// Bytes of a message that are looked at; what follows is cut off.
pub const MESSAGE_BYTES_MAX: usize = 1_024;
/// Longest quoted text, in bytes.
const QUOTED_BYTES_MAX: usize = 512;

/// Returns the template of a message.
pub fn template(message: &str) -> String {
    let mut text = String::with_capacity(message.len().min(MESSAGE_BYTES_MAX));
    append_template(message, &mut text);
    text
}

/// Appends the template of a message.
pub fn append_template(message: &str, out: &mut String) {
    let message = &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)];
    // What follows the first line is a stack or a dump: its length says nothing.
    let first = message.trim_start().lines().next().unwrap_or("").trim_end();
    let begin = out.len();
    Scanner { text: first, at: 0, key: Key::None, out }.run();
    collapse(out, begin);
}

/// What the next value belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    /// Nothing: a word of the sentence.
    None,
    /// A key whose value says what happened.
    Telling,
    /// Any other key.
    Plain,
}

struct Scanner<'a, 'o> {
    text: &'a str,
    at: usize,
    key: Key,
    out: &'o mut String,
}

/// Ends a word. Of these only what begins a value or a list matters; all of them are kept.
fn separates(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(
            byte,
            b'=' | b',' | b';' | b':' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b'"' | b'|' | b'`'
        )
}

fn is_telling(key: &str) -> bool {
    ["msg", "message", "event", "error", "err", "level", "lvl", "severity", "status", "reason", "action", "exception"]
        .iter()
        .any(|name| key.eq_ignore_ascii_case(name))
}

impl Scanner<'_, '_> {
    fn run(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'"' | b'\'' | b'`' if self.quoted(byte) => {}
                _ if separates(byte) => {
                    if byte.is_ascii_whitespace() {
                        if !self.out.ends_with(' ') {
                            self.out.push(' ');
                        }
                        if self.key == Key::Plain {
                            // `key= value` has no value right after it; `key: value` of a sentence is a sentence.
                            self.key = Key::None;
                        }
                    } else {
                        self.out.push(char::from(byte));
                    }
                    if matches!(byte, b',' | b';' | b'{' | b'}') {
                        self.key = Key::None;
                    }
                    self.at += 1;
                }
                _ => self.word(),
            }
        }
    }

    fn word(&mut self) {
        let bytes = self.text.as_bytes();
        let begin = self.at;
        // A path or an address runs on through what would separate words.
        let mut end = begin;
        while end < bytes.len() && !separates(bytes[end]) {
            end += 1;
        }
        if bytes[end..].starts_with(b"://") {
            while end < bytes.len()
                && !bytes[end].is_ascii_whitespace()
                && !matches!(bytes[end], b'"' | b'\'' | b',' | b')' | b']')
            {
                end += 1;
            }
            self.at = end;
            self.key = Key::None;
            return self.out.push_str(VARIABLE);
        }
        let word = &self.text[begin..end];
        self.at = end;
        match bytes.get(end) {
            Some(b'=') if bytes.get(end + 1).is_some_and(|next| !next.is_ascii_whitespace() && *next != b'=') => {
                self.key = if is_telling(word) { Key::Telling } else { Key::Plain };
                return self.out.push_str(word);
            }
            _ => {}
        }
        let of_key = std::mem::replace(&mut self.key, Key::None);
        if of_key == Key::Plain || is_variable(word) {
            // A full stop or the like ends the sentence, not the value.
            let tail = word.len() - word.trim_end_matches(['.', '!', '?']).len();
            self.out.push_str(VARIABLE);
            self.out.push_str(&word[word.len() - tail..]);
        } else {
            self.out.push_str(word);
        }
    }

    /// Takes quoted text, where the quote at hand opens one.
    fn quoted(&mut self, quote: u8) -> bool {
        let bytes = self.text.as_bytes();
        if quote == b'\'' && self.at > 0 && bytes[self.at - 1].is_ascii_alphanumeric() {
            return false;
        }
        let mut close = self.at + 1;
        loop {
            match bytes.get(close) {
                None => return false,
                _ if close - self.at > QUOTED_BYTES_MAX => return false,
                Some(b'\\') => close += 2,
                Some(byte)
                    if *byte == quote
                        && (quote != b'\'' || !bytes.get(close + 1).is_some_and(u8::is_ascii_alphanumeric)) =>
                {
                    break;
                }
                Some(_) => close += 1,
            }
        }
        let inner = &self.text[self.at + 1..close];
        let is_key = quote == b'"' && self.text[close + 1..].trim_start().starts_with(':') && self.in_object();
        self.at = close + 1;
        if is_key {
            self.out.push('"');
            self.out.push_str(if inner.bytes().any(|b| b.is_ascii_digit()) { VARIABLE } else { inner });
            self.out.push_str("\":");
            self.at += self.text[self.at..].find(':').map_or(0, |colon| colon + 1);
            self.at += self.text[self.at..].len() - self.text[self.at..].trim_start().len();
            self.key = if is_telling(inner) { Key::Telling } else { Key::Plain };
            return true;
        }
        if std::mem::replace(&mut self.key, Key::None) == Key::Telling {
            self.out.push(char::from(quote));
            Scanner { text: inner, at: 0, key: Key::None, out: self.out }.run();
            self.out.push(char::from(quote));
        } else {
            self.out.push_str(VARIABLE);
        }
        true
    }

    fn in_object(&self) -> bool {
        self.text[..self.at].trim_end().ends_with(['{', ',', '['])
    }
}

/// Says whether a word varies, as far as can be told from itself.
fn is_variable(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.iter().any(u8::is_ascii_digit)
        || word.starts_with('/')
        || word.starts_with("\\\\")
        || bytes.iter().filter(|b| **b == b'/').count() >= 2
        || (bytes.contains(&b'@') && bytes.len() > 2)
        || (bytes.len() >= 12 && bytes.iter().all(u8::is_ascii_hexdigit))
        || matches!(word, "true" | "false" | "null" | "nil" | "None" | "True" | "False")
}

/// Makes one variable of several that only punctuation parts, and of a date's words beside one.
fn collapse(out: &mut String, begin: usize) {
    const DATES: [&str; 19] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Mon", "Tue", "Wed", "Thu",
        "Fri", "Sat", "Sun",
    ];
    if !out[begin..].contains(VARIABLE) {
        return;
    }
    let text = out.split_off(begin);
    let mut rest = text.as_str();
    let mut after_variable = false;
    while !rest.is_empty() {
        if let Some(next) = rest.strip_prefix(VARIABLE) {
            if !after_variable {
                out.push_str(VARIABLE);
            }
            after_variable = true;
            rest = next;
            continue;
        }
        let end = rest.find(VARIABLE).unwrap_or(rest.len());
        let between = &rest[..end];
        let glue =
            |c: char| c.is_whitespace() || matches!(c, ',' | ':' | ';' | '.' | '-' | '/' | '_' | '+' | '#' | '|');
        let dates = !between.is_empty()
            && between.split(glue).all(|word| word.is_empty() || DATES.contains(&word))
            && between.contains(|c: char| c.is_alphabetic());
        let joins = between.chars().all(glue) || dates;
        if after_variable && end < rest.len() && joins {
            // Nothing but glue up to the next one: they are one.
        } else if !after_variable && dates && end < rest.len() && out.len() == begin {
            // A date that begins the line.
        } else {
            out.push_str(between);
            after_variable = false;
        }
        rest = &rest[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_varies_is_masked_and_what_is_said_stays() {
        for (message, expected) in [
            ("user 42 paid 13.50 EUR in 250ms", "user <*> paid <*> EUR in <*>"),
            ("order 6f1c2a34-0000-4abc-9def-0123456789ab failed", "order <*> failed"),
            ("connect to 10.0.0.7:5432 refused", "connect to <*> refused"),
            ("no item \"red hat\" in 'cart'", "no item <*> in <*>"),
            ("can't open the user's file", "can't open the user's file"),
            ("GET https://shop.example/a?b=c, then /etc/passwd", "GET <*>, then <*>"),
            (
                "time=2024-01-02T03:04:05Z level=info msg=\"cache miss for 7\" user=ann",
                "time=<*> level=info msg=\"cache miss for <*>\" user=<*>",
            ),
            (
                "{\"level\":\"warn\",\"msg\":\"pool is full\",\"size\":12,\"who\":\"bob\"}",
                "{\"level\":\"warn\",\"msg\":\"pool is full\",\"size\":<*>,\"who\":<*>}",
            ),
            ("2024-01-02 03:04:05,678 INFO started", "<*> INFO started"),
            ("Jan  2 03:04:05 host sshd[77]: session closed", "<*> host sshd[<*>]: session closed"),
            ("ids [1, 2, 3] done", "ids [<*>] done"),
            ("ids [4] done", "ids [<*>] done"),
            ("took 5.", "took <*>."),
            ("x = y", "x = y"),
            ("failed\n  at a.b(C.java:1)", "failed"),
            ("", ""),
        ] {
            assert_eq!(template(message), expected, "{message}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_template_and_numbers_do_not_change_it(message in ".{0,200}", a in 0_u32..9, b in 10_u32..99_999) {
            template(&message);
            prop_assert_eq!(template(&format!("took {a} of {message}")), template(&format!("took {b} of {message}")));
        }
    }
}
