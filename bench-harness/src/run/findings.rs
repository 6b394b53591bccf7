//! What makes a result less than it should be, in words.

use super::Measured;
use crate::workload::Found;

/// From this share on, keys that were not there are worth a word.
const MISSED_MIN: f64 = 0.01;

impl Measured {
    /// Whatever makes this result less than it should be.
    #[must_use]
    pub fn findings(&self) -> Vec<(Finding, String)> {
        let outcome = &self.outcome;
        let mut found: Vec<(Finding, String)> =
            outcome.failure.iter().map(|failure| (Finding::Broken, failure.clone())).collect();
        if let Some(shortfall) = self.rate_asked.and_then(|rate| outcome.shortfall(rate)) {
            found.push((Finding::Overload, shortfall.to_string()));
        }
        if outcome.unanswered > 0 {
            let silent = outcome.unanswered - outcome.unsent.min(outcome.unanswered);
            let what = match (silent, outcome.unsent) {
                (_, 0) => format!("{silent} requests got no reply"),
                (0, unsent) => format!("{unsent} requests that were due were never sent"),
                (_, unsent) => format!("{silent} requests got no reply and {unsent} that were due were never sent"),
            };
            found.push((Finding::Overload, format!("{what}; they count with the time they had waited")));
        }
        if outcome.unanswered_warmup > 0 {
            let count = outcome.unanswered_warmup;
            found.push((Finding::Overload, format!("{count} requests of the warm-up got no reply until the end")));
        }
        if outcome.errors > 0 {
            let first = outcome.error_first.as_deref().unwrap_or_default();
            found.push((
                Finding::Errors,
                format!("{} error replies, the first {first}; they are not in the latencies", outcome.errors),
            ));
        }
        if outcome.mistyped > 0 {
            let first = outcome.mistyped_first.as_deref().unwrap_or_default();
            found.push((
                Finding::Broken,
                format!(
                    "{} replies were of a wrong type, the first: {first}; they are not in the latencies",
                    outcome.mistyped
                ),
            ));
        }
        self.missed(&mut found);
        if outcome.mismatches > 0 {
            let first = outcome.mismatch_first.as_deref().unwrap_or_default();
            found.push((
                Finding::Broken,
                format!("{} replies were not what had been written, the first: {first}", outcome.mismatches),
            ));
        }
        if self.verify && outcome.verified == 0 {
            found.push((Finding::Broken, "no reply could be compared with what had been written".to_owned()));
        }
        if outcome.measured == 0 {
            let what = if outcome.errors + outcome.mistyped > 0 { "as it should be" } else { "at all" };
            found.push((Finding::Broken, format!("no request that counts was answered {what}")));
        }
        found
    }

    /// What was read and was not there, or not as long as what was written.
    fn missed(&self, found: &mut Vec<(Finding, String)>) {
        let mut all = Found::default();
        self.outcome.found.iter().for_each(|op| all.add(*op));
        if let Some(share) = all.missed().filter(|share| *share >= MISSED_MIN) {
            let each = self.commands.iter().zip(&self.outcome.found).filter(|(_, op)| op.misses > 0);
            let each: Vec<_> = each.map(|(name, op)| format!("{name} {} of {}", op.misses, op.reads())).collect();
            found.push((
                Finding::Misses,
                format!(
                    "{:.1} % of the keys read were not there ({}); a key that is not there is answered sooner",
                    share * 100.0,
                    each.join(", ")
                ),
            ));
        }
        if all.wrong_len > 0 {
            let first = self.outcome.wrong_len_first.as_deref().unwrap_or_default();
            found.push((
                Finding::Broken,
                format!("{} values were not as long as any that had been written, the first: {first}", all.wrong_len),
            ));
        }
    }
}

/// What can be wrong with a result. Whether it is depends on what was looked for: a sweep wants to
/// know which rate is not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A connection broke, a reply was wrong, nothing was measured.
    Broken,
    /// Error replies.
    Errors,
    /// Keys that were read and not there.
    Misses,
    /// A rate was not reached, or requests were not answered.
    Overload,
}
