//! Logarithms of whole numbers by table: the bucket of a latency and its natural logarithm.
//!
//! *Invariants.* Nothing but integers, multiplications and additions in a fixed order, so that every machine and every
//! library of mathematics gives the same, which sums of logarithms are compared by. Buckets are exact. The logarithm is within
//! 1e-11: the rest of its series after four terms, at a distance of less than 1/128 from a number of the table.

use crate::signal::HISTOGRAM_SCALE;

const STEPS: usize = 1 << HISTOGRAM_SCALE;

/// `2^(63 + k/16)`, rounded down.
const EDGES: [u64; STEPS] = [
    0x8000_0000_0000_0000,
    0x85aa_c367_cc48_7b14,
    0x8b95_c1e3_ea8b_d6e6,
    0x91c3_d373_ab11_c336,
    0x9837_f051_8db8_a96f,
    0x9ef5_3260_91a1_11ad,
    0xa5fe_d6a9_b151_38ea,
    0xad58_3eea_42a1_4ac6,
    0xb504_f333_f9de_6484,
    0xbd08_a39f_580c_36be,
    0xc567_2a11_5506_dadd,
    0xce24_8c15_1f84_80e3,
    0xd744_fcca_d69d_6af4,
    0xe0cc_deec_2a94_e111,
    0xeac0_c6e7_dd24_392e,
    0xf525_7d15_2486_cc2c,
];

/// Parts of an octave of which the logarithm is known.
const PARTS: usize = 128;

/// Bits below those that tell the part.
const REST_BITS: u32 = u64::BITS - 1 - PARTS.trailing_zeros();

/// Of the start of each part, `1 + k/128`: what a number's remaining bits are to be multiplied by to be told relative to
/// it, and its natural logarithm.
const STARTS: [(f64, f64); PARTS] = {
    let mut starts = [(0.0, 0.0); PARTS];
    let mut part = 0;
    while part < PARTS {
        let all = (PARTS + part) as f64;
        // ln(1 + k/n) = 2 artanh(k / (2n + k)), and of that at most a third is left with each term.
        let z = part as f64 / (PARTS as f64 + all);
        let (mut power, mut sum, mut odd) = (z, 0.0, 1);
        while odd < 41 {
            sum += power / odd as f64;
            power *= z * z;
            odd += 2;
        }
        starts[part] = (1.0 / (all * (1_u64 << REST_BITS) as f64), 2.0 * sum);
        part += 1;
    }
    starts
};

/// How many edges are below the start of each 128th of an octave. No two edges lie in one.
const BELOW: [u8; 128] = {
    let mut below = [0; 128];
    let mut part = 0;
    while part < 128 {
        let start = (128 + part as u64) << 56;
        let mut edges = 0;
        while edges < STEPS && EDGES[edges] < start {
            edges += 1;
        }
        below[part] = edges as u8;
        part += 1;
    }
    below
};

/// Finds the octave, how many edges of it are below the number, and the number with its first bit in front.
#[inline]
fn place(number: u64) -> (u32, usize, u64) {
    let octave = 63 - number.leading_zeros();
    let front = number << (63 - octave);
    // No branch: latencies are random in what they would hang on.
    let below = usize::from(BELOW[(front >> 56) as usize & 127]);
    let next = if below < STEPS { EDGES[below] } else { u64::MAX };
    (octave, below + usize::from(front > next), front)
}

/// Returns the index of the bucket of scale 4 that holds the number: `2^(i/16) < number <= 2^((i+1)/16)`. Zero counts as one.
#[inline]
pub(crate) fn bucket(number: u64) -> i16 {
    let (octave, below, _) = place(number.max(1));
    (octave as i16) * STEPS as i16 + below as i16 - 1
}

/// Returns the bucket as above, and the natural logarithm. Zero counts as one.
///
/// *Cost.* Neither waits for the other, and the terms are added in pairs: what takes time is how long they hang on each other.
#[inline]
pub fn bucket_and_ln(number: u64) -> (i16, f64) {
    let (octave, below, front) = place(number.max(1));
    let index = (octave as i16) * STEPS as i16 + below as i16 - 1;
    let (scale, start) = STARTS[(front >> REST_BITS) as usize % PARTS];
    let x = (front & ((1 << REST_BITS) - 1)) as i64 as f64 * scale;
    let square = x * x;
    let series = x + square * ((-1.0 / 2.0 + x * (1.0 / 3.0)) + square * (-1.0 / 4.0));
    (index, (f64::from(octave as i32) * std::f64::consts::LN_2 + start) + series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_logarithms_are_those_of_the_library() {
        let mut number = 1_u64;
        let mut worst: f64 = 0.0;
        for step in 0..200_000_u64 {
            let (index, ln) = bucket_and_ln(number);
            worst = worst.max((ln - (number as f64).ln()).abs());
            let by_library = ((number as f64).log2() * 16.0).ceil() as i16 - 1;
            assert_eq!((index, bucket(number)), (by_library, by_library), "{number}");
            number = if number > 1 << 50 { 1 + step % 4_096 } else { number + number / 37 + step % 3 + 1 };
        }
        assert!(worst < 1e-11, "{worst}");
        assert_eq!(bucket_and_ln(0), (-1, 0.0));
        assert_eq!(bucket_and_ln(u64::MAX).0, 1_023);
    }
}
