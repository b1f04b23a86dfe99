//! The name that somebody most likely meant.

/// Returns the known name nearest to `written`, where one is near enough to be a slip of the pen.
pub(crate) fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let length = written.chars().count();
    known
        .iter()
        // Whatever differs by more in length alone is not near; what somebody sends may be long.
        .filter(|known| known.len().abs_diff(length) <= known.len().max(3) / 2)
        .map(|known| (strsim::damerau_levenshtein(known, written), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().max(3) / 2)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["timeout", "rows_max", "threads"];
        assert_eq!(nearest("timout", &known), Some("timeout"));
        assert_eq!(nearest("row_max", &known), Some("rows_max"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
