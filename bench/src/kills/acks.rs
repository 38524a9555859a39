//! What the clients tell while leaders are killed: when writes were acknowledged, and what failed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The acknowledgements around one kill, and then around the next.
pub(super) struct Acks {
    last: Instant,
    longest_silence: Duration,
    killed: Option<Instant>,
    gap: Option<Duration>,
    writes: u64,
    errors: BTreeMap<&'static str, u64>,
}

/// What was counted since the kill before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) writes: u64,
    pub(super) errors: BTreeMap<&'static str, u64>,
}

impl Acks {
    /// Nothing has been acknowledged yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, longest_silence: Duration::ZERO, killed: None, gap: None, writes: 0, errors: BTreeMap::new() }
    }

    /// The leader is being killed. What was silent before counts only if it goes on.
    pub(super) fn kill(&mut self, now: Instant) {
        (self.killed, self.gap, self.longest_silence) = (Some(now), None, Duration::ZERO);
    }

    /// A write was acknowledged whose request was sent at `sent`. True when it is the first that was sent after the kill:
    /// the answers of a leader that died a moment later say nothing of its successor.
    pub(super) fn acknowledged(&mut self, sent: Instant, now: Instant) -> bool {
        self.writes += 1;
        self.longest_silence = self.longest_silence.max(now - self.last);
        self.last = now;
        match self.killed {
            Some(killed) if self.gap.is_none() && sent > killed => {
                self.gap = Some(now - killed);
                true
            }
            _ => false,
        }
    }

    /// An attempt failed.
    pub(super) fn failed(&mut self, error: &'static str) {
        *self.errors.entry(error).or_default() += 1;
    }

    /// From the kill to the first acknowledgement of a write that was sent after it.
    pub(super) fn gap(&self) -> Option<Duration> {
        self.gap
    }

    /// The longest time without any acknowledgement since the kill or the last call, one that has begun before or still goes
    /// on included.
    pub(super) fn take_longest_silence(&mut self, now: Instant) -> Duration {
        std::mem::take(&mut self.longest_silence).max(now - self.last)
    }

    /// What was counted since the last call.
    pub(super) fn take_counted(&mut self) -> Counted {
        Counted { writes: std::mem::take(&mut self.writes), errors: std::mem::take(&mut self.errors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_ends_with_a_write_that_was_sent_after_the_kill() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut acks = Acks::new(start);
        assert!(!acks.acknowledged(at(90), at(95)), "nobody was killed");
        acks.kill(at(100));
        assert!(!acks.acknowledged(at(99), at(130)), "it was sent before");
        assert_eq!(acks.gap(), None);
        assert!(acks.acknowledged(at(110), at(250)));
        assert!(!acks.acknowledged(at(111), at(260)), "only the first counts");
        assert_eq!(acks.gap(), Some(Duration::from_millis(150)));
        acks.kill(at(300));
        assert_eq!(acks.gap(), None);
    }

    #[test]
    fn silence_has_begun_before_the_kill_and_may_go_on() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut acks = Acks::new(start);
        acks.acknowledged(at(0), at(80));
        acks.kill(at(100));
        acks.acknowledged(at(101), at(180));
        acks.acknowledged(at(102), at(190));
        assert_eq!(acks.take_longest_silence(at(200)), Duration::from_millis(100));
        acks.acknowledged(at(201), at(210));
        assert_eq!(acks.take_longest_silence(at(220)), Duration::from_millis(20));
        assert_eq!(acks.take_longest_silence(at(300)), Duration::from_millis(90));
    }

    #[test]
    fn writes_and_errors_are_counted_for_each_kill() {
        let now = Instant::now();
        let mut acks = Acks::new(now);
        acks.acknowledged(now, now);
        acks.failed("UNAVAILABLE");
        acks.failed("UNAVAILABLE");
        let counted = Counted { writes: 1, errors: BTreeMap::from([("UNAVAILABLE", 2)]) };
        assert_eq!(acks.take_counted(), counted);
        assert_eq!(acks.take_counted(), Counted { writes: 0, errors: BTreeMap::new() });
    }
}
