//! Words about the telemetry of a service: what limits the trust to be put in its aggregates.
//!
//! A word applies for ten minutes of receipt after what it says was last met, and for as long as somebody judges from what was
//! received then. The words are stable: verdicts carry them.

/// How long a word applies, in nanoseconds.
const RECENT_NS: u64 = 600_000_000_000;

macro_rules! words {
    ($($(#[$doc:meta])* $word:ident = $text:literal,)*) => {
        /// What may be said.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Word {
            $($(#[$doc])* $word,)*
        }

        const TEXTS: &[&str] = &[$($text),*];
    };
}

words! {
    /// Spans came more than an hour after they ended; they count in the bucket in which they ended.
    LateSpans = "late_spans",
    /// Spans ended at a time that is not believed; they count in the bucket of receipt.
    MisdatedSpans = "misdated_spans",
    /// Spans ended before they started; they took no time.
    NegativeDurations = "negative_durations",
    /// Spans came twice; they count twice as requests and once in their trace.
    DuplicateSpans = "duplicate_spans",
    /// Spans name a parent of their own process that never came, or parents run in a circle.
    BrokenParents = "broken_parents",
    /// Clocks of this service and of one that it calls or is called by differ by more than a second.
    ClockSkew = "clock_skew",
    /// Telemetry carries no `service.version`.
    UnversionedTelemetry = "unversioned_telemetry",
    /// Operations no longer fitted under their bound and count as `{other}`.
    CollapsedOperations = "collapsed_operations",
    /// Log templates no longer fitted under their bound and count as `{other}`.
    CollapsedLogs = "collapsed_logs",
    /// Metric points were left out for lack of room.
    MetricsLeftOut = "metrics_left_out",
    /// Spans are sampled: rates are by weight.
    SampledSpans = "sampled_spans",
    /// Too many cells awaited a checkpoint: requests were left out.
    DroppedCells = "dropped_cells",
    /// There was no room for all traces: who called whom, and where failures began, is known of a share of them.
    DrawnTraces = "drawn_traces",
}

const WORDS: usize = 13;

/// When each word last applied, as times of receipt in nanoseconds; 0 for never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quality([u64; WORDS]);

impl Quality {
    pub(crate) fn say(&mut self, word: Word, at: u64) {
        let last = &mut self.0[word as usize];
        *last = at.max(*last);
    }

    /// Lists the words that apply at `now` to what was received since `since`, in the order of the text.
    pub(crate) fn words(&self, now: u64, since: u64) -> Vec<String> {
        let recent = |at: u64| at > 0 && (at >= since || now.saturating_sub(at) < RECENT_NS);
        let mut words: Vec<String> =
            self.0.iter().zip(TEXTS).filter(|(at, _)| recent(**at)).map(|(_, text)| (*text).to_owned()).collect();
        words.sort_unstable();
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_applies_for_ten_minutes_or_to_what_is_judged_and_every_word_has_its_text() {
        let mut quality = Quality::default();
        quality.say(Word::DroppedCells, 1_000);
        quality.say(Word::ClockSkew, 2_000);
        assert_eq!(quality.words(RECENT_NS, u64::MAX), ["clock_skew", "dropped_cells"]);
        assert_eq!(quality.words(RECENT_NS + 1_500, u64::MAX), ["clock_skew"]);
        assert_eq!(quality.words(9 * RECENT_NS, 1_500), ["clock_skew"], "whoever judges from then is told");
        assert!(quality.words(9 * RECENT_NS, 2_500).is_empty());
        assert_eq!((TEXTS.len(), Word::DrawnTraces as usize), (WORDS, WORDS - 1));
    }
}
