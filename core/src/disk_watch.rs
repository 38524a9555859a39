//! How long the log's disk has kept a shard waiting. A disk that hangs says nothing; only time does.

use crate::config::Timing;
use crate::types::Tick;

/// Looked at in every turn.
#[derive(Debug, Default)]
pub(crate) struct DiskWatch {
    waits_since_ms: Option<u64>,
    hung: bool,
}

/// What has just become known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It hangs.
    Hangs,
    /// It was waited for so many milliseconds, and goes on.
    Back(u64),
}

impl DiskWatch {
    /// A write was synced, after how long a wait is told if that was long.
    pub fn synced(&mut self, now: Tick) -> Option<News> {
        let waited_ms = self.waited_ms(now);
        self.waits_since_ms = None;
        std::mem::take(&mut self.hung).then_some(News::Back(waited_ms))
    }

    /// The end of a turn: something is, or is not, waiting to be synced.
    pub fn look(&mut self, is_waiting: bool, now: Tick, timing: &Timing) -> Option<News> {
        match is_waiting {
            true => _ = self.waits_since_ms.get_or_insert(now.mono_ms),
            false => self.waits_since_ms = None,
        }
        let begins = !self.hung && self.hangs(now, timing);
        self.hung |= begins;
        begins.then_some(News::Hangs)
    }

    /// For how long the oldest write has been waiting, in milliseconds.
    pub fn waited_ms(&self, now: Tick) -> u64 {
        self.waits_since_ms.map_or(0, |since_ms| now.mono_ms.saturating_sub(since_ms))
    }

    /// Whether that is longer than others would wait for a leader's sign of life.
    pub fn hangs(&self, now: Tick, timing: &Timing) -> bool {
        self.waited_ms(now) >= timing.election_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_counted_from_its_beginning_and_said_once() {
        let timing = Timing::default();
        let at = |mono_ms| Tick { mono_ms, wall_ms: 0 };
        let mut disk = DiskWatch::default();
        assert_eq!(disk.look(true, at(100), &timing), None);
        assert_eq!(disk.synced(at(150)), None);
        assert_eq!(disk.look(true, at(150), &timing), None, "the next write");
        assert_eq!(disk.look(true, at(1_149), &timing), None);
        assert_eq!(disk.look(true, at(1_150), &timing), Some(News::Hangs));
        assert_eq!(disk.look(true, at(1_250), &timing), None);
        assert!(disk.hangs(at(1_250), &timing));
        assert_eq!(disk.synced(at(2_000)), Some(News::Back(1_850)));
        assert_eq!(disk.look(false, at(9_000), &timing), None, "nothing waits");
        assert!(!disk.hangs(at(9_000), &timing));
    }
}
