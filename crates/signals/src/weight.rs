//! How many spans a sampled span stands for.
//!
//! *Source.* OpenTelemetry's probability sampling: `ot=th:<hex>` in the trace state is the rejection threshold in units of
//! 2^-56, trailing zeros left out, so that a span stands for `2^56 / (2^56 - threshold)`. Its forerunner `ot=p:<n>` says
//! that it stands for `2^n`. Other samplers (`sampling.probability`, `SampleRate`) are not read.

use plimsoll_model::signal::WEIGHT_UNIT;

/// No span stands for more than this.
const WEIGHT_MAX: u64 = (u32::MAX as u64 / WEIGHT_UNIT) * WEIGHT_UNIT;

/// Reads the weight out of a trace state, in units of 1/[`WEIGHT_UNIT`]; what says nothing weighs one.
pub(crate) fn weight_of(trace_state: &str) -> u64 {
    let Some(member) = trace_state.split(',').find_map(|member| member.trim().strip_prefix("ot=")) else {
        return WEIGHT_UNIT;
    };
    for part in member.split(';') {
        if let Some(weight) = part.strip_prefix("th:").and_then(of_threshold) {
            return weight;
        }
        if let Some(power) = part.strip_prefix("p:").and_then(|text| text.parse::<u32>().ok()).filter(|p| *p <= 62) {
            return (WEIGHT_UNIT << power.min(40)).min(WEIGHT_MAX);
        }
    }
    WEIGHT_UNIT
}

fn of_threshold(hex: &str) -> Option<u64> {
    if hex.is_empty() || hex.len() > 14 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let threshold = u64::from_str_radix(hex, 16).ok()? << (4 * (14 - hex.len()));
    let kept = (1_u128 << 56) - u128::from(threshold);
    let weight = ((1_u128 << 56) * u128::from(WEIGHT_UNIT) + kept / 2) / kept;
    Some(weight.min(u128::from(WEIGHT_MAX)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_specification() {
        for (state, expected) in [
            ("", 1.0),
            ("vendor=x", 1.0),
            ("ot=th:0", 1.0),
            ("ot=th:8", 2.0),
            ("vendor=x, ot=rv:abcdef12345678;th:c", 4.0),
            ("ot=th:fd70a3d70a3d71", 100.0),
            ("ot=th:fd7", 99.902),
            ("ot=p:10;r:62", 1024.0),
            ("ot=th:xyz", 1.0),
            ("ot=th:123456789abcdef", 1.0),
            ("ot=th:ffffffffffffff", WEIGHT_MAX as f64 / 1024.0),
        ] {
            let weight = weight_of(state) as f64 / WEIGHT_UNIT as f64;
            assert!((weight / expected - 1.0).abs() < 1e-3, "{state}: {weight} against {expected}");
        }
    }
}
