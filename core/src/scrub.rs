//! Replicas compare what they hold. Every now and then a leader goes through its group's state, part after part: it proposes an entry that
//! changes nothing, says at which index which part is compared, and each replica hashes that part as it is when it has applied
//! that entry and no later one. Such hashes are equal, or somebody's state is not what it should be. That everything is read is
//! half of the use: an engine notices a damaged block where it reads it.
//!
//! Nothing depends on it: what is lost on the way, or comes too late, is left out of the comparison. What is to be done about a
//! difference is decided when all of the state was compared: whoever was right in one part may be wrong in another.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::request::ScrubStatus;
use crate::types::{LogIndex, NodeId, Term};

/// The first pass of a new leader begins after so long, or sooner if passes come more often. So does the one after a difference.
const FIRST_PASS_MS: u64 = 10 * 60_000;
/// Who was silent once is asked again after so many parts.
const SILENT_FOR_PARTS: u64 = 256;

/// What a replica was asked to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Once this is applied, and before anything else is.
    pub index: LogIndex,
    /// The entry's, which is the asking leader's.
    pub term: Term,
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
    /// The term whose leader it has told something: it may doubt that leader for a while, and follow it again.
    pub told: Option<Term>,
    /// Its own state is not what the others have: it is to be fetched anew, and not to be read before.
    pub is_wrong: bool,
    /// Of a leader.
    pass: Option<Pass>,
    begun_ms: Option<u64>,
    ended_ms: Option<u64>,
    /// The last whole pass found a difference.
    found: bool,
    status: ScrubStatus,
}

/// A leader's way through the state.
struct Pass {
    position: Bytes,
    parts: u64,
    silent: BTreeSet<NodeId>,
    /// Left out of one part or more, or not to be reached.
    missing: BTreeSet<NodeId>,
    /// Each part so far was compared by a quorum.
    is_whole: bool,
    /// Those that differed from a quorum in one part or more.
    wrong: BTreeSet<NodeId>,
    /// There was a part in which no quorum agreed.
    is_undecided: bool,
    /// The present part is compared once more, by all.
    is_repeated: bool,
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

/// What the end of a part brought to light.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// In this part.
    pub difference: Option<Difference>,
    /// At the end of a pass: who should fetch its state anew. One at a time, so that a quorum goes on.
    pub heal: Option<NodeId>,
}

impl Scrub {
    /// As a leader since `led_since_ms`: where the next part begins, if it is time for it.
    pub fn due(&mut self, now_ms: u64, led_since_ms: u64, every_ms: u64) -> Option<Bytes> {
        if every_ms == 0 {
            return None;
        }
        let soon_ms = every_ms.min(FIRST_PASS_MS);
        let begin_ms = match self.begun_ms {
            Some(begun_ms) => begun_ms.saturating_add(if self.found { soon_ms } else { every_ms }),
            None => led_since_ms + soon_ms,
        };
        if self.pass.is_none() && now_ms >= begin_ms {
            self.begun_ms = Some(now_ms);
            self.pass = Some(Pass {
                position: Bytes::new(),
                parts: 0,
                silent: BTreeSet::new(),
                missing: BTreeSet::new(),
                is_whole: true,
                wrong: BTreeSet::new(),
                is_undecided: false,
                is_repeated: false,
                round: None,
            });
            (self.status.bytes, self.status.is_under_way) = (0, true);
        }
        let pass = self.pass.as_ref().filter(|pass| pass.round.is_none())?;
        Some(pass.position.clone())
    }

    /// Which of several groups goes on: one in the middle of a pass before others, and of these the one that waits longest.
    pub fn rank(&self) -> (bool, Option<u64>) {
        (self.pass.is_none(), self.begun_ms)
    }

    /// A part is compared at this index, by those of the members that can be reached and are worth asking, whom it answers.
    pub fn begin(
        &mut self,
        index: LogIndex,
        members: &[NodeId],
        is_reached: impl Fn(NodeId) -> bool,
        until_ms: u64,
    ) -> BTreeSet<NodeId> {
        let Some(pass) = &mut self.pass else { return BTreeSet::new() };
        if pass.parts.is_multiple_of(SILENT_FOR_PARTS) {
            pass.silent.clear();
        }
        pass.parts += 1;
        let is_asked = |id: &NodeId| is_reached(*id) && !pass.silent.contains(id);
        let (asked, others): (BTreeSet<_>, BTreeSet<_>) = members.iter().copied().partition(is_asked);
        pass.missing.extend(others);
        pass.round = Some(Round { index, until_ms, asked: asked.clone(), hashes: BTreeMap::new(), next: None });
        asked
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

    /// Ends the part once the leader itself, `own`, has read it, and all others have or their time is over.
    pub fn end_part(&mut self, now_ms: u64, own: NodeId, is_quorum: impl Fn(&BTreeSet<NodeId>) -> bool) -> Found {
        let Some(pass) = &mut self.pass else { return Found::default() };
        let is_over = |round: &mut Round| {
            round.next.is_some() && (round.hashes.len() == round.asked.len() || now_ms >= round.until_ms)
        };
        let Some(round) = pass.round.take_if(is_over) else { return Found::default() };
        let answered: BTreeSet<NodeId> = round.hashes.keys().copied().collect();
        let silent = round.asked.difference(&answered).copied();
        pass.silent.extend(silent.clone());
        pass.missing.extend(silent);
        pass.is_whole &= is_quorum(&answered);
        self.status.unanswered = pass.missing.len() as u64;
        let difference = difference(round.index, &round.hashes, is_quorum);
        if difference.as_ref().is_some_and(|difference| !difference.is_minority) && !pass.is_repeated {
            // Those who were left out may know who is right.
            pass.is_repeated = true;
            pass.silent.clear();
            return Found::default();
        }
        pass.is_repeated = false;
        self.status.differences += u64::from(difference.is_some());
        match &difference {
            Some(Difference { is_minority: true, replicas, .. }) => pass.wrong.extend(replicas),
            Some(_) => pass.is_undecided = true,
            None => {}
        }
        let heal = match round.next.flatten() {
            Some(next) => {
                pass.position = next;
                None
            }
            None => self.end_pass(now_ms, own),
        };
        Found { difference, heal }
    }

    fn end_pass(&mut self, now_ms: u64, own: NodeId) -> Option<NodeId> {
        let pass = self.pass.take()?;
        (self.status.bytes_before, self.status.is_under_way) = (self.status.bytes, false);
        self.found = !pass.wrong.is_empty() || pass.is_undecided;
        if pass.is_whole {
            self.status.passes += 1;
            self.ended_ms = Some(now_ms);
        }
        // State is fetched from the leader, who must be right in all of it; or, if only the leader is wrong, from its heir.
        let knows_right = !pass.is_undecided && (!pass.wrong.contains(&own) || pass.wrong.len() == 1);
        pass.wrong.first().copied().filter(|_| knows_right)
    }

    /// It leads no more, or follows another.
    pub fn stand_down(&mut self) {
        self.awaited = None;
        (self.pass, self.begun_ms, self.ended_ms, self.found) = (None, None, None, false);
        self.status = ScrubStatus { differences: self.status.differences, ..ScrubStatus::default() };
    }

    /// The state was replaced.
    pub fn replaced(&mut self) {
        (self.awaited, self.told, self.is_wrong) = (None, None, false);
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
    const OWN: NodeId = NodeId(1);
    const ALL: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn of_three(side: &BTreeSet<NodeId>) -> bool {
        side.len() >= 2
    }

    /// A leader whose first part is due.
    fn begun() -> Scrub {
        let mut scrub = Scrub::default();
        assert_eq!(scrub.due(0, 0, HOUR_MS), None, "a new leader has other things to do");
        assert_eq!(scrub.due(FIRST_PASS_MS, 0, HOUR_MS), Some(Bytes::new()));
        scrub.begin(LogIndex(5), &ALL, |_| true, FIRST_PASS_MS + 100);
        scrub
    }

    /// All of a part's answers are there. The part ends with it, and the pass with the last one.
    fn part(scrub: &mut Scrub, index: u64, hashes: &[(u64, u64)], next: Option<&'static [u8]>) -> Found {
        scrub.read(LogIndex(index), 10, next.map(Bytes::from_static));
        hashes.iter().for_each(|&(id, hash)| scrub.answered(NodeId(id), LogIndex(index), hash));
        scrub.end_part(FIRST_PASS_MS + 100, OWN, of_three)
    }

    #[test]
    fn it_goes_from_part_to_part_and_begins_again_in_time() {
        let mut scrub = begun();
        let now_ms = FIRST_PASS_MS;
        assert_eq!(scrub.due(now_ms, 0, HOUR_MS), None, "one part at a time");
        scrub.read(LogIndex(5), 10, Some(Bytes::from_static(b"k")));
        scrub.answered(NodeId(4), LogIndex(5), 9);
        for id in ALL {
            assert_eq!(scrub.end_part(now_ms, OWN, of_three), Found::default());
            assert_eq!(scrub.due(now_ms, 0, HOUR_MS), None, "not all have answered");
            scrub.answered(id, LogIndex(5), 7);
        }
        assert_eq!(scrub.end_part(now_ms, OWN, of_three), Found::default(), "a stranger's answer does not count");
        assert_eq!(scrub.due(now_ms, 0, HOUR_MS).as_deref(), Some(&b"k"[..]));
        scrub.begin(LogIndex(6), &ALL, |_| true, now_ms + 100);
        assert_eq!(part(&mut scrub, 6, &[(1, 7), (2, 7), (3, 7)], None), Found::default());
        let status = scrub.status(now_ms + 105);
        assert_eq!((status.passes, status.bytes_before, status.is_under_way), (1, 20, false));
        assert_eq!((status.ended_ms_ago, status.differences), (Some(5), 0));
        assert_eq!(scrub.due(now_ms + HOUR_MS - 1, 0, HOUR_MS), None);
        assert_eq!(scrub.due(now_ms + HOUR_MS, 0, HOUR_MS), Some(Bytes::new()));
    }

    #[test]
    fn a_minority_is_named_if_there_is_one() {
        let judged = |hashes: &[(u64, u64)]| {
            let mut scrub = begun();
            let first = part(&mut scrub, 5, hashes, None);
            if scrub.due(FIRST_PASS_MS + 100, 0, HOUR_MS).is_none() {
                return first;
            }
            assert_eq!(first, Found::default(), "it is compared once more before that is said");
            scrub.begin(LogIndex(5), &ALL, |_| true, FIRST_PASS_MS + 100);
            part(&mut scrub, 5, hashes, None)
        };
        let found = |replicas: &[u64], is_minority, heal: Option<u64>| {
            let replicas = replicas.iter().copied().map(NodeId).collect();
            Found { difference: Some(Difference { index: LogIndex(5), replicas, is_minority }), heal: heal.map(NodeId) }
        };
        assert_eq!(judged(&[(1, 7), (2, 7), (3, 7)]), Found::default());
        assert_eq!(judged(&[(1, 7), (2, 8), (3, 7)]), found(&[2], true, Some(2)));
        assert_eq!(judged(&[(1, 8), (2, 7), (3, 7)]), found(&[1], true, Some(1)), "the leader itself");
        assert_eq!(judged(&[(1, 7), (2, 8)]), found(&[1, 2], false, None), "nobody knows who is right");
        assert_eq!(judged(&[(1, 7), (2, 8), (3, 9)]), found(&[1, 2, 3], false, None));
        assert_eq!(judged(&[(1, 7)]), Found::default());
    }

    #[test]
    fn who_is_healed_is_decided_at_the_end_of_a_pass() {
        let (second, third, own) = ([(1, 7), (2, 8), (3, 7)], [(1, 7), (2, 7), (3, 8)], [(1, 8), (2, 7), (3, 7)]);
        let (none, nobody_knows) = ([(1, 7), (2, 7), (3, 7)], [(1, 7), (2, 8), (3, 9)]);
        let healed = |parts: &[[(u64, u64); 3]]| {
            let mut scrub = begun();
            let mut heal = None;
            for (at, hashes) in parts.iter().enumerate() {
                assert_eq!(heal, None, "before the end");
                if at > 0 {
                    scrub.begin(LogIndex(5), &ALL, |_| true, FIRST_PASS_MS + 100);
                }
                let next: Option<&[u8]> = (at + 1 < parts.len()).then_some(b"k");
                heal = part(&mut scrub, 5, hashes, next).heal;
                if *hashes == nobody_knows {
                    scrub.begin(LogIndex(5), &ALL, |_| true, FIRST_PASS_MS + 100);
                    heal = part(&mut scrub, 5, hashes, next).heal;
                }
            }
            assert_eq!(
                scrub.due(FIRST_PASS_MS + FIRST_PASS_MS, 0, HOUR_MS),
                Some(Bytes::new()),
                "the next one comes soon"
            );
            heal
        };
        assert_eq!(healed(&[second, none, second]), Some(NodeId(2)));
        assert_eq!(
            healed(&[third, second]),
            Some(NodeId(2)),
            "one after the other, from the leader who was right in all"
        );
        assert_eq!(healed(&[own, none]), Some(OWN));
        assert_eq!(healed(&[own, second]), None, "who could lead in its place is wrong, too");
        assert_eq!(healed(&[second, nobody_knows]), None);
    }

    #[test]
    fn who_is_silent_is_waited_for_once_in_a_while() {
        let mut scrub = begun();
        assert_eq!(part(&mut scrub, 5, &[(1, 7), (2, 7)], Some(b"k")), Found::default());
        assert_eq!(scrub.due(FIRST_PASS_MS + 100, 0, HOUR_MS).as_deref(), Some(&b"k"[..]));
        let asked = scrub.begin(LogIndex(6), &ALL, |_| true, u64::MAX);
        assert_eq!(asked, [NodeId(1), NodeId(2)].into());
        for _ in 0..SILENT_FOR_PARTS {
            part(&mut scrub, 6, &[(1, 7), (2, 7), (3, 7)], Some(b"k"));
            scrub.begin(LogIndex(6), &ALL, |_| true, u64::MAX);
        }
        assert_eq!(
            part(&mut scrub, 6, &[(1, 7), (2, 7)], None).heal,
            None,
            "who was silent did not answer a stale part"
        );
        assert_eq!(scrub.status(0).unanswered, 1);
    }

    #[test]
    fn a_pass_counts_if_a_quorum_compared_each_part() {
        let mut scrub = begun();
        part(&mut scrub, 5, &[(1, 7), (2, 7), (3, 7)], Some(b"k"));
        scrub.begin(LogIndex(6), &ALL, |id| id == OWN, u64::MAX);
        part(&mut scrub, 6, &[(1, 7)], None);
        let status = scrub.status(FIRST_PASS_MS);
        assert_eq!((status.passes, status.unanswered, status.is_under_way), (0, 2, false));
    }

    #[test]
    fn the_leaders_own_store_is_waited_for() {
        let mut scrub = begun();
        [2, 3].into_iter().for_each(|id| scrub.answered(NodeId(id), LogIndex(5), 7));
        assert_eq!(scrub.end_part(u64::MAX, OWN, of_three), Found::default());
        assert!(scrub.is_comparing());
        part(&mut scrub, 5, &[(1, 7)], None);
        assert_eq!(scrub.status(0).passes, 1);
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
