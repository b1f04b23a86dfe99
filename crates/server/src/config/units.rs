//! Sizes and durations as people write them.

use std::time::Duration;

/// What a size looks like, for messages.
pub(super) const SIZE: &str = "a size such as `512MiB` or `64KB`";
/// What a duration looks like, for messages.
pub(super) const DURATION: &str = "a duration such as `500ms`, `10s`, `15m`, `36h` or `7d`";

fn split(text: &str) -> Option<(f64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..at].parse().ok()?;
    Some((number, text[at..].trim()))
}

/// Reads a size in bytes. `KB` is 1,000 bytes, `KiB` is 1,024.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" | "k" => 1_000,
        "kib" => 1 << 10,
        "mb" | "m" => 1_000_000,
        "mib" => 1 << 20,
        "gb" | "g" => 1_000_000_000,
        "gib" => 1 << 30,
        "tb" | "t" => 1_000_000_000_000,
        "tib" => 1 << 40,
        _ => return None,
    };
    let bytes = number * factor as f64;
    (bytes <= u64::MAX as f64 / 2.0).then_some(bytes as u64)
}

/// Writes a size as it is read, in the largest unit that keeps it short.
pub fn format_size(bytes: u64) -> String {
    for (unit, factor) in [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor {
            let value = bytes as f64 / factor as f64;
            return if value.fract() == 0.0 { format!("{value}{unit}") } else { format!("{value:.1}{unit}") };
        }
    }
    format!("{bytes}B")
}

/// Reads a duration; several parts add up, as in `1h30m`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let secs = match after[..end].trim() {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * secs).ok()?)?;
        rest = &after[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_time_than_there_is_is_no_duration() {
        assert_eq!(parse_duration("10000000000000000000s10000000000000000000s"), None);
    }

    #[test]
    fn sizes_are_read_in_both_families_of_units() {
        assert_eq!(parse_size("512MiB"), Some(512 << 20));
        assert_eq!(parse_size("1.5 GB"), Some(1_500_000_000));
        assert_eq!(parse_size("42"), Some(42));
        assert_eq!(parse_size("-1MiB"), None);
        assert_eq!(parse_size("many"), None);
        assert_eq!(format_size(512 << 20), "512MiB");
    }

    #[test]
    fn durations_are_read_and_add_up() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("10"), None, "a number without a unit is ambiguous");
        assert_eq!(parse_duration(""), None);
        assert_eq!(parse_duration("1y"), None);
    }
}
