//! A replica's part in comparing states: see `scrub`. What differs is fetched anew from the leader: its store's state is replaced by a
//! snapshot, its log and its votes stay.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::limits::SCRUB_PART_BYTES_MAX;
use crate::machine::Digest;
use crate::machine::entry::EntryBuilder;
use crate::mutation::{Mutation, is_on};
use crate::output::{Event, Output};
use crate::replica::{Replica, Turn};
use crate::scrub::Part;
use crate::storage::{Committed, StorageJob};
use crate::types::{LogIndex, NodeId, Term};
use crate::wire::Body;

/// So many election timeouts an answer is waited for: a replica first has to apply what is in front.
const PATIENCE: u64 = 5;

impl Replica {
    /// As a leader: ends the part that was compared, if it is time.
    pub(crate) fn end_scrubbed_part(&mut self, turn: &mut Turn) {
        let (group, raft) = (self.group, &self.raft);
        let is_quorum = |side: &BTreeSet<NodeId>| raft.is_quorum(&side.iter().copied().collect::<Vec<_>>());
        let found = self.scrub.end_part(turn.now.mono_ms, self.node, is_quorum);
        if let Some(difference) = found.difference {
            let (index, replicas, majority) = (difference.index, difference.replicas, difference.is_minority);
            turn.out.push(Output::Report(Event::ReplicasDiffer { group, index, replicas, majority }));
        }
        match found.heal {
            Some(own) if own == self.node => self.is_wrong(turn),
            Some(peer) => self.post(peer, Body::Differs { term: self.raft.term() }, turn),
            None => {}
        }
    }

    /// As a leader: has the next part compared by all that can be reached, if it is time. Whether it has.
    pub(crate) fn scrub_part(&mut self, peers_up: &BTreeSet<NodeId>, turn: &mut Turn) -> bool {
        let Some(led_since_ms) = self.leads_since() else { return false };
        let limits = &turn.config.scrub;
        let Some(position) = self.scrub.due(turn.now.mono_ms, led_since_ms, limits.every_ms) else { return false };
        let is_busy = self.scrub.awaited.is_some() || self.scrub.reading.is_some();
        if is_busy || turn.rooms.is_short() || self.raft.is_handing_over() {
            return false;
        }
        let Some(stamp) = self.clock.stamp(turn.now) else { return false };
        let entry = EntryBuilder::new().finish(turn.config.epoch, stamp);
        let Ok((term, index)) = self.raft.propose(entry) else { return false };
        (self.last_bare_stamp, self.last_stamped) = (index, index);
        let members = [self.raft.voters(), self.raft.learners()].concat();
        let until_ms = turn.now.mono_ms + PATIENCE * turn.config.timing.election_ms();
        let is_reached = |id| id == self.node || peers_up.contains(&id);
        let asked = self.scrub.begin(index, &members, is_reached, until_ms);
        let bytes_max = limits.part_bytes.min(SCRUB_PART_BYTES_MAX);
        for &peer in asked.iter().filter(|id| **id != self.node) {
            self.post(peer, Body::Scrub { index, term, position: position.clone(), bytes_max }, turn);
        }
        self.scrub.awaited = Some(Part { index, term, asker: self.node, position, bytes_max });
        true
    }

    /// The leader wants to know. What is applied already, or may be, can not be looked at any more.
    pub(crate) fn asked_to_scrub(&mut self, part: Part) {
        if self.may_be_led_by(part.asker, part.term) && !self.is_installing() && part.index > self.handed_to_store() {
            self.scrub.awaited = Some(part);
        }
    }

    /// Has entries applied, in two jobs if a part is to be read between them.
    pub(crate) fn store(&mut self, mut entries: Vec<Committed>, turn: &mut Turn) {
        let group = self.group;
        let late = u64::from(is_on(Mutation::ScrubOneLate) && !self.raft.is_leader());
        let is_last = |part: &Part, entry: &Committed| entry.index.0 == part.index.0 + late && entry.term == part.term;
        let behind = self.scrub.awaited.as_ref().and_then(|part| entries.iter().position(|entry| is_last(part, entry)));
        let (Some(last), Some(part)) = (behind, self.scrub.awaited.take_if(|_| behind.is_some())) else {
            return turn.out.push(Output::Storage(StorageJob::Apply { group, entries }));
        };
        let rest = entries.split_off(last + 1);
        turn.out.push(Output::Storage(StorageJob::Apply { group, entries }));
        if self.scrub.reading.is_none() {
            let (index, position, bytes_max) = (part.index, part.position.clone(), part.bytes_max);
            turn.out.push(Output::Storage(StorageJob::Scrub { group, index, position, bytes_max }));
            self.scrub.reading = Some(part);
        }
        if !rest.is_empty() {
            turn.out.push(Output::Storage(StorageJob::Apply { group, entries: rest }));
        }
    }

    /// The store has read the part.
    pub(crate) fn scrubbed(&mut self, index: LogIndex, digest: Option<Digest>, turn: &mut Turn) {
        let (Some(part), Some(digest)) = (self.scrub.reading.take(), digest) else { return };
        if part.term != self.raft.term() {
            return;
        }
        if part.asker == self.node {
            self.scrub.read(index, digest.bytes, digest.next);
            self.scrub.answered(self.node, index, digest.hash);
        } else {
            self.scrub.told = Some(part.term);
            self.post(part.asker, Body::Scrubbed { index, term: part.term, hash: digest.hash }, turn);
        }
    }

    /// A replica's answer to this leader.
    pub(crate) fn scrub_answered(&mut self, from: NodeId, index: LogIndex, term: Term, hash: u64) {
        if term == self.raft.term() {
            self.scrub.answered(from, index, hash);
        }
    }

    /// The leader says that a majority holds something else than this replica told it.
    pub(crate) fn told_that_differs(&mut self, from: NodeId, term: Term, turn: &mut Turn) {
        if self.may_be_led_by(from, term) && self.scrub.told == Some(term) {
            self.is_wrong(turn);
        }
    }

    /// Whether the sender of what only a leader says can be this term's. Who was told that its leader is gone hears from it first.
    fn may_be_led_by(&self, from: NodeId, term: Term) -> bool {
        self.raft.term() == term && self.raft.leader().is_none_or(|leader| leader == from)
    }

    fn is_wrong(&mut self, turn: &mut Turn) {
        if !std::mem::replace(&mut self.scrub.is_wrong, true) {
            turn.out.push(Output::Report(Event::FetchesAnew(self.group)));
        }
    }

    /// Once a tick: what is wrong here is fetched from the leader, and nobody else follows it meanwhile.
    pub(crate) fn heal(&mut self, peers_up: &BTreeSet<NodeId>, may_lead: impl Fn(NodeId) -> bool) {
        if !self.scrub.is_wrong || self.is_installing() {
            return;
        }
        if !self.raft.is_leader() {
            // Refused while one is under way, and until it has an entry of its leader.
            self.raft.request_snapshot();
        } else if !self.raft.is_handing_over() {
            self.hand_over(peers_up, may_lead);
        }
    }

    /// What is wrong is not read.
    pub(crate) fn refuses_reads(&self) -> Option<Error> {
        let why = || format!("group {}: node {} fetches its state anew: ask another", self.group, self.node);
        self.scrub.is_wrong.then(|| Error::NotReady(why()))
    }
}
