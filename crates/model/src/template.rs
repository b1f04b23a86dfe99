//! Log templates: a message with `<*>` for what varies, so that like messages fall together.
//!
//! [`template`] looks at one message alone, so that it gives the same text in every process and order. It takes for
//! variable: whatever has a digit in it, quoted text, paths and addresses, values after `=`, values of JSON, and the words
//! `true`, `false` and `null`. Runs of variables become one, so that lists and dates of any length are alike. What a
//! message says stays: the values of `msg`, `message`, `event`, `error` and `level`, in logfmt and JSON, are looked into.
//! Variables that look like words are left to [`group`], which sees many templates at once.
//!
//! A message becomes a [`skeleton`] first: its bytes with a mark for each variable. Equal skeletons have equal templates, so
//! that whoever sees many lines looks a skeleton's hash up and spells its template once.
//!
//! *Cost.* One pass over at most [`MESSAGE_BYTES_MAX`] bytes, about two instructions a byte and ten a word; nothing is
//! allocated but the text that is appended to.

mod group;
mod scan;
mod spell;

pub use group::{group, join};
pub use scan::skeleton;
pub use spell::append_spelt;

/// What stands for a variable.
pub const VARIABLE: &str = "<*>";
/// Bytes of a message that are looked at; what follows is cut off.
pub const MESSAGE_BYTES_MAX: usize = 1_024;
/// Stands for a variable in a skeleton: a byte that no text has.
const MARK: u8 = 0xff;

/// Returns the template of a message.
pub fn template(message: &str) -> String {
    let mut text = String::with_capacity(message.len().min(MESSAGE_BYTES_MAX));
    append_template(message, &mut text);
    text
}

/// Appends the template of a message.
pub fn append_template(message: &str, out: &mut String) {
    let mut bytes = Vec::with_capacity(message.len().min(MESSAGE_BYTES_MAX));
    skeleton(message, &mut bytes);
    append_spelt(&bytes, out);
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
            ("key feedfacecafe expired, feedback follows", "key <*> expired, feedback follows"),
            ("user <*> paid <*>", "user <*> paid <*>"),
            ("Größe 12 für Ärger@Zürich", "Größe <*> für <*>"),
            ("'a 'b 'c", "'a 'b 'c"),
            ("too   many\tspaces", "too many spaces"),
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

        #[test]
        fn equal_skeletons_have_equal_templates(
            words in prop::collection::vec("[a-z]{1,12}|[0-9]{1,5}|/[a-z]{3}|\"[a-z ]{0,5}\"|[a-z]=[a-z0-9]", 1..12),
            spaces in prop::collection::vec(1_usize..4, 12),
        ) {
            let (one, wide) = (words.join(" "), words.iter().zip(&spaces).map(|(word, n)| word.clone() + &" ".repeat(*n)).collect::<String>());
            let (mut bones, mut wide_bones) = (Vec::new(), Vec::new());
            skeleton(&one, &mut bones);
            skeleton(&wide, &mut wide_bones);
            prop_assert_eq!(template(&one), template(&wide));
            prop_assert_eq!(bones, wide_bones);
        }
    }
}
