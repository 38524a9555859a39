//! Replicas compare what they hold. Every now and then a leader goes through its group's state, part after part: it proposes an entry that
//! changes nothing, says at which index which part is compared, and each replica hashes that part as it is when it has applied
//! that entry and no later one. Such hashes are equal, or somebody's state is not what it should be. That everything is read is
//! half of the use: an engine notices a damaged block where it reads it.
//!
//! Nothing depends on it: what is lost on the way, or comes too late, is left out of the comparison, and who was once silent is not
//! waited for again in the same pass.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::request::ScrubStatus;
use crate::types::{LogIndex, NodeId};

/// The first pass of a new leader begins after so long, or sooner if passes come more often.
const FIRST_PASS_MS: u64 = 10 * 60_000;

/// What a replica was asked to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Once this is applied, and before anything else is.
    pub index: LogIndex,
    /// Who wants to know.
    pub asker: NodeId,
    /// Where it begins.
    pub position: Bytes,
    /// About how long it is.
    pub bytes_max: u64,
}

/// One replica's share in it.
#[derive(Default)]
pub(crate) struct Scrub {
    /// The latest that it was asked for: its entry is still to come.
    pub awaited: Option<Part>,
    /// What the store reads now.
    pub reading: Option<Part>,
    /// What it told last, and whom.
    pub told: Option<(NodeId, LogIndex)>,
    /// Of a leader.
    pass: Option<Pass>,
    begun_ms: Option<u64>,
    ended_ms: Option<u64>,
    status: ScrubStatus,
}

/// A leader's way through the state.
#[derive(Default)]
struct Pass {
    position: Bytes,
    silent: BTreeSet<NodeId>,
    round: Option<Round>,
}

/// A part that is being compared.
struct Round {
    index: LogIndex,
    until_ms: u64,
    asked: BTreeSet<NodeId>,
    hashes: BTreeMap<NodeId, u64>,
    /// Where the next part begins: known once the leader itself has read this one.
    next: Option<Option<Bytes>>,
}

/// Replicas hold different states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// After this entry.
    pub index: LogIndex,
    /// Those that differ from a quorum; without one, all that answered.
    pub replicas: Vec<NodeId>,
    /// A quorum agrees.
    pub is_minority: bool,
}

impl Scrub {
    /// As a leader since `led_since_ms`: where the next part begins, if it is time for it.
    pub fn due(&mut self, now_ms: u64, led_since_ms: u64, every_ms: u64) -> Option<Bytes> {
        if every_ms == 0 {
            return None;
        }
        let begin_ms = match self.begun_ms {
            Some(begun_ms) => begun_ms + every_ms,
            None => led_since_ms + every_ms.min(FIRST_PASS_MS),
        };
        if self.pass.is_none() && now_ms >= begin_ms {
            self.begun_ms = Some(now_ms);
            self.pass = Some(Pass::default());
            (self.status.bytes, self.status.is_under_way) = (0, true);
        }
        let pass = self.pass.as_ref().filter(|pass| pass.round.is_none())?;
        Some(pass.position.clone())
    }

    /// Of these, those that are worth asking.
    pub fn answering(&self, all: impl Iterator<Item = NodeId>) -> BTreeSet<NodeId> {
        let silent = |id: &NodeId| self.pass.as_ref().is_some_and(|pass| pass.silent.contains(id));
        all.filter(|id| !silent(id)).collect()
    }

    /// The part is compared at this index, by these.
    pub fn begin(&mut self, index: LogIndex, asked: BTreeSet<NodeId>, until_ms: u64) {
        if let Some(pass) = &mut self.pass {
            pass.round = Some(Round { index, until_ms, asked, hashes: BTreeMap::new(), next: None });
        }
    }

    /// Whether a part is being compared.
    pub fn is_comparing(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.round.is_some())
    }

    fn round(&mut self, index: LogIndex) -> Option<&mut Round> {
        self.pass.as_mut()?.round.as_mut().filter(|round| round.index == index)
    }

    /// The leader's own store has read its part.
    pub fn read(&mut self, index: LogIndex, bytes: u64, next: Option<Bytes>) {
        if let Some(round) = self.round(index) {
            round.next = Some(next);
            self.status.bytes += bytes;
        }
    }

    /// A replica's hash.
    pub fn answered(&mut self, from: NodeId, index: LogIndex, hash: u64) {
        if let Some(round) = self.round(index).filter(|round| round.asked.contains(&from)) {
            round.hashes.insert(from, hash);
        }
    }

    /// Ends the part once all have answered, or its time is over. Says what differs.
    pub fn end_part(&mut self, now_ms: u64, is_quorum: impl Fn(&BTreeSet<NodeId>) -> bool) -> Option<Difference> {
        let pass = self.pass.as_mut()?;
        let is_over =
            |round: &Round| round.next.is_some() && round.hashes.len() == round.asked.len() || now_ms >= round.until_ms;
        let round = pass.round.take_if(|round| is_over(round))?;
        let silent = round.asked.iter().filter(|id| !round.hashes.contains_key(id));
        pass.silent.extend(silent.copied());
        self.status.unanswered = pass.silent.len() as u64;
        match round.next {
            Some(Some(next)) => pass.position = next,
            // Its own store has not come to it: what comes behind is asked for another time.
            None => pass.silent.clear(),
            Some(None) => {
                self.pass = None;
                self.status.passes += 1;
                (self.status.bytes_before, self.status.is_under_way) = (self.status.bytes, false);
                self.ended_ms = Some(now_ms);
            }
        }
        let difference = difference(round.index, &round.hashes, is_quorum);
        self.status.differences += u64::from(difference.is_some());
        difference
    }

    /// It leads no more.
    pub fn stand_down(&mut self) {
        (self.pass, self.begun_ms, self.ended_ms) = (None, None, None);
        self.status = ScrubStatus::default();
    }

    /// How far it is.
    pub fn status(&self, now_ms: u64) -> ScrubStatus {
        let ended_ms_ago = self.ended_ms.map(|ended_ms| now_ms.saturating_sub(ended_ms));
        ScrubStatus { ended_ms_ago, ..self.status.clone() }
    }
}

fn difference(
    index: LogIndex,
    hashes: &BTreeMap<NodeId, u64>,
    is_quorum: impl Fn(&BTreeSet<NodeId>) -> bool,
) -> Option<Difference> {
    let mut sides: BTreeMap<u64, BTreeSet<NodeId>> = BTreeMap::new();
    for (&id, &hash) in hashes {
        sides.entry(hash).or_default().insert(id);
    }
    if sides.len() < 2 {
        return None;
    }
    let right = sides.values().find(|side| is_quorum(side));
    let differs = |id: &NodeId| right.is_none_or(|right| !right.contains(id));
    let replicas = hashes.keys().copied().filter(differs).collect();
    Some(Difference { index, replicas, is_minority: right.is_some() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn of_three(side: &BTreeSet<NodeId>) -> bool {
        side.len() >= 2
    }

    /// A leader whose first part is due.
    fn begun() -> Scrub {
        let mut scrub = Scrub::default();
        assert_eq!(scrub.due(0, 0, HOUR_MS), None, "a new leader has other things to do");
        assert_eq!(scrub.due(FIRST_PASS_MS, 0, HOUR_MS), Some(Bytes::new()));
        scrub.begin(LogIndex(5), ids(&[1, 2, 3]), FIRST_PASS_MS + 100);
        scrub
    }

    #[test]
    fn it_goes_from_part_to_part_and_begins_again_in_time() {
        let mut scrub = begun();
        let now_ms = FIRST_PASS_MS;
        assert_eq!(scrub.due(now_ms, 0, HOUR_MS), None, "one part at a time");
        scrub.read(LogIndex(5), 10, Some(Bytes::from_static(b"k")));
        scrub.answered(NodeId(4), LogIndex(5), 9);
        for id in 1..=3 {
            assert_eq!(scrub.end_part(now_ms, of_three), None);
            assert_eq!(scrub.due(now_ms, 0, HOUR_MS), None, "not all have answered");
            scrub.answered(NodeId(id), LogIndex(5), 7);
        }
        assert_eq!(scrub.end_part(now_ms, of_three), None, "a stranger's answer does not count");
        assert_eq!(scrub.due(now_ms, 0, HOUR_MS).as_deref(), Some(&b"k"[..]));
        scrub.begin(LogIndex(6), ids(&[1]), now_ms + 100);
        scrub.read(LogIndex(6), 4, None);
        scrub.answered(NodeId(1), LogIndex(6), 7);
        assert_eq!(scrub.end_part(now_ms, of_three), None);
        let status = scrub.status(now_ms + 5);
        assert_eq!((status.passes, status.bytes_before, status.is_under_way), (1, 14, false));
        assert_eq!((status.ended_ms_ago, status.differences), (Some(5), 0));
        assert_eq!(scrub.due(now_ms + HOUR_MS - 1, 0, HOUR_MS), None);
        assert_eq!(scrub.due(now_ms + HOUR_MS, 0, HOUR_MS), Some(Bytes::new()));
    }

    #[test]
    fn a_minority_is_named_if_there_is_one() {
        let judged = |hashes: &[(u64, u64)]| {
            let mut scrub = begun();
            scrub.read(LogIndex(5), 10, None);
            hashes.iter().for_each(|&(id, hash)| scrub.answered(NodeId(id), LogIndex(5), hash));
            scrub.end_part(FIRST_PASS_MS + 100, of_three)
        };
        let some = |replicas: &[u64], is_minority| {
            Some(Difference { index: LogIndex(5), replicas: ids(replicas).into_iter().collect(), is_minority })
        };
        assert_eq!(judged(&[(1, 7), (2, 7), (3, 7)]), None);
        assert_eq!(judged(&[(1, 7), (2, 8), (3, 7)]), some(&[2], true));
        assert_eq!(judged(&[(1, 8), (2, 7), (3, 7)]), some(&[1], true), "the leader itself");
        assert_eq!(judged(&[(1, 7), (2, 8)]), some(&[1, 2], false), "nobody knows who is right");
        assert_eq!(judged(&[(1, 7), (2, 8), (3, 9)]), some(&[1, 2, 3], false));
        assert_eq!(judged(&[(1, 7)]), None);
    }

    #[test]
    fn who_is_silent_is_waited_for_once_in_a_pass() {
        let mut scrub = begun();
        scrub.read(LogIndex(5), 10, Some(Bytes::from_static(b"k")));
        [1, 2].into_iter().for_each(|id| scrub.answered(NodeId(id), LogIndex(5), 7));
        assert_eq!(scrub.end_part(FIRST_PASS_MS + 99, of_three), None);
        assert_eq!(scrub.due(FIRST_PASS_MS + 99, 0, HOUR_MS), None);
        assert_eq!(scrub.end_part(FIRST_PASS_MS + 100, of_three), None);
        assert_eq!(scrub.due(FIRST_PASS_MS + 100, 0, HOUR_MS).as_deref(), Some(&b"k"[..]));
        assert_eq!(scrub.answering(ids(&[1, 2, 3]).into_iter()), ids(&[1, 2]));
        assert_eq!(scrub.status(0).unanswered, 1);
    }

    #[test]
    fn a_part_that_the_leader_itself_could_not_read_in_time_is_asked_for_again() {
        let mut scrub = begun();
        [2, 3].into_iter().for_each(|id| scrub.answered(NodeId(id), LogIndex(5), 7));
        assert_eq!(scrub.end_part(FIRST_PASS_MS + 100, of_three), None);
        assert_eq!(scrub.due(FIRST_PASS_MS + 100, 0, HOUR_MS), Some(Bytes::new()));
        assert_eq!(scrub.answering(ids(&[1, 2, 3]).into_iter()), ids(&[1, 2, 3]));
        scrub.read(LogIndex(5), 10, None);
        assert!(scrub.status(0).is_under_way, "what comes late does not count");
    }

    #[test]
    fn it_can_be_switched_off_and_ends_with_the_leadership() {
        assert_eq!(Scrub::default().due(u64::MAX, 0, 0), None);
        let mut scrub = begun();
        scrub.stand_down();
        assert_eq!(scrub.status(0), ScrubStatus::default());
        assert_eq!(scrub.due(FIRST_PASS_MS, FIRST_PASS_MS, HOUR_MS), None, "a new leadership counts anew");
    }
}
