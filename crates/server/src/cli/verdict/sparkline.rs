//! Numbers over time in one line of text.

/// Bars from low to high.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws both arms on one scale, from zero to the greatest of both; a point without a number is a space.
pub(super) fn pair(one: &[Option<f64>], other: &[Option<f64>]) -> [String; 2] {
    let top = one.iter().chain(other).flatten().copied().fold(0.0, f64::max);
    [one, other].map(|points| points.iter().map(|point| point.map_or(' ', |value| bar(value, top))).collect())
}

fn bar(value: f64, top: f64) -> char {
    if top <= 0.0 || value <= 0.0 {
        return BARS[0];
    }
    // The greatest value is the whole of the last bar.
    let at = (value / top * BARS.len() as f64).ceil() as usize;
    BARS[at.clamp(1, BARS.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_arms_share_a_scale_and_gaps_stay_gaps() {
        let [one, other] = pair(&[Some(0.0), None, Some(8.0)], &[Some(1.0), Some(4.0), Some(f64::MIN_POSITIVE)]);
        assert_eq!(one, "▁ █");
        assert_eq!(other, "▁▄▁");
        assert_eq!(pair(&[], &[Some(0.0)])[1], "▁");
    }
}
