//! `log_template(body)`: the message without its variable parts, so that like messages fall together.
//!
//! Masks, in order of trial at each word: quoted text `<str>`, UUID `<uuid>`, IPv4 address with or without port `<ip>`,
//! `0x..` and runs of at least eight hexadecimal digits with a digit among them `<hex>`, numbers `<num>` (with sign, fraction
//! and a unit of up to three letters kept out).
//!
//! *Cost.* One pass over the bytes; one output buffer for a batch.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// Name of the function.
pub(crate) const NAME: &str = "log_template";
/// Bytes of a message that are looked at; what follows is cut off.
const MESSAGE_BYTES_MAX: usize = 4096;

static UDF: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(LogTemplate { signature: Signature::any(1, Volatility::Immutable) })));

pub(crate) fn udf() -> Arc<ScalarUDF> {
    Arc::clone(&UDF)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LogTemplate {
    signature: Signature,
}

impl ScalarUDFImpl for LogTemplate {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(first) = args.args.into_iter().next() else { return exec_err!("`{NAME}` takes one argument") };
        let bodies = cast(&first.into_array(args.number_rows)?, &DataType::Utf8)?;
        let bodies = bodies.as_string::<i32>();
        let mut out = StringBuilder::with_capacity(bodies.len(), bodies.value_data().len());
        let mut text = String::new();
        for body in bodies {
            match body {
                Some(body) => {
                    text.clear();
                    mask(body, &mut text);
                    out.append_value(&text);
                }
                None => out.append_null(),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

/// Appends the template of `message` to `out`.
fn mask(message: &str, out: &mut String) {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let mut rest = &message[..end];
    let mut word_before = false;
    while let Some(first) = rest.chars().next() {
        let masked = if word_before { None } else { masked(rest) };
        let taken = match masked {
            Some((mask, taken)) => {
                out.push_str(mask);
                word_before = false;
                taken
            }
            None => {
                out.push(first);
                word_before = first.is_alphanumeric() || first == '_';
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
}

/// Returns the mask for what `text` begins with, and how many bytes it stands for.
fn masked(text: &str) -> Option<(&'static str, usize)> {
    let bytes = text.as_bytes();
    match bytes[0] {
        quote @ (b'"' | b'\'') => {
            let close = bytes[1..].iter().position(|byte| *byte == quote)? + 1;
            return Some(("<str>", close + 1));
        }
        byte if byte.is_ascii_hexdigit() => {}
        b'-' | b'+' if bytes.get(1).is_some_and(u8::is_ascii_digit) => return number(bytes),
        _ => return None,
    }
    uuid(bytes).or_else(|| address(bytes)).or_else(|| hexadecimal(bytes)).or_else(|| number(bytes))
}

fn ends_word(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
}

fn run(bytes: &[u8], fits: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| fits(byte)).count()
}

fn uuid(bytes: &[u8]) -> Option<(&'static str, usize)> {
    let shape = bytes.get(..36)?.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    (shape && ends_word(bytes, 36)).then_some(("<uuid>", 36))
}

fn address(bytes: &[u8]) -> Option<(&'static str, usize)> {
    let mut at = 0;
    for part in 0..4 {
        let digits = run(&bytes[at..], u8::is_ascii_digit);
        if digits == 0 || digits > 3 {
            return None;
        }
        at += digits;
        if part < 3 {
            if bytes.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
    }
    if bytes.get(at) == Some(&b':') {
        let port = run(&bytes[at + 1..], u8::is_ascii_digit);
        if (1..=5).contains(&port) {
            at += port + 1;
        }
    }
    ends_word(bytes, at).then_some(("<ip>", at))
}

fn hexadecimal(bytes: &[u8]) -> Option<(&'static str, usize)> {
    if bytes.starts_with(b"0x") || bytes.starts_with(b"0X") {
        let digits = run(&bytes[2..], u8::is_ascii_hexdigit);
        return (digits > 0 && ends_word(bytes, digits + 2)).then_some(("<hex>", digits + 2));
    }
    let digits = run(bytes, u8::is_ascii_hexdigit);
    let word = &bytes[..digits];
    let mixed = word.iter().any(u8::is_ascii_digit) && word.iter().any(u8::is_ascii_alphabetic);
    (digits >= 8 && mixed && ends_word(bytes, digits)).then_some(("<hex>", digits))
}

fn number(bytes: &[u8]) -> Option<(&'static str, usize)> {
    let sign = usize::from(matches!(bytes[0], b'-' | b'+'));
    let mut at = sign + run(&bytes[sign..], u8::is_ascii_digit);
    if at == sign {
        return None;
    }
    while matches!(bytes.get(at), Some(b'.' | b',')) && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
        at += 1 + run(&bytes[at + 1..], u8::is_ascii_digit);
    }
    // A unit of at most three letters stays: `<num>ms` and `<num>kb` differ.
    let unit = run(&bytes[at..], u8::is_ascii_alphabetic);
    (unit <= 3 && ends_word(bytes, at + unit)).then_some(("<num>", at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn template(message: &str) -> String {
        let mut out = String::new();
        mask(message, &mut out);
        out
    }

    #[test]
    fn variable_parts_are_masked_and_words_are_kept() {
        assert_eq!(template("user 42 paid 13.50 EUR in 250ms"), "user <num> paid <num> EUR in <num>ms");
        assert_eq!(template("order 6f1c2a34-0000-4abc-9def-0123456789ab failed"), "order <uuid> failed");
        assert_eq!(template("connect to 10.0.0.7:5432 refused"), "connect to <ip> refused");
        assert_eq!(template("block 0xDEADBEEF at deadbeef01"), "block <hex> at <hex>");
        assert_eq!(template("no item \"red hat\" in 'cart'"), "no item <str> in <str>");
        assert_eq!(template("utf8 http2 v1 face deadbeef"), "utf8 http2 v1 face deadbeef");
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_masking(message in "\\PC{0,60}") {
            let once = template(&message);
            prop_assert!(once.len() <= message.len() * 6);
        }
    }
}
