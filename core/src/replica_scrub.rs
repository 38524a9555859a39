//! A replica's part in comparing states: see `scrub`.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::machine::Digest;
use crate::machine::entry::EntryBuilder;
use crate::mutation::{Mutation, is_on};
use crate::output::{Event, Output};
use crate::replica::{Replica, Turn};
use crate::scrub::Part;
use crate::storage::{Committed, StorageJob};
use crate::types::{LogIndex, NodeId};
use crate::wire::Body;

/// So many election timeouts an answer is waited for: a replica first has to apply what is in front.
const PATIENCE: u64 = 5;

impl Replica {
    /// As a leader: ends the part that was compared, if it is time.
    pub(crate) fn end_scrubbed_part(&mut self, turn: &mut Turn) {
        let raft = &self.raft;
        let is_quorum = |side: &BTreeSet<NodeId>| raft.is_quorum(&side.iter().copied().collect::<Vec<_>>());
        let Some(found) = self.scrub.end_part(turn.now.mono_ms, is_quorum) else { return };
        for &id in found.replicas.iter().filter(|_| found.is_minority) {
            match id == self.node {
                true => self.differs_here(found.index, turn),
                false => self.post(id, Body::Differs { index: found.index }, turn),
            }
        }
        let (group, index, replicas) = (self.group, found.index, found.replicas);
        turn.out.push(Output::Report(Event::ReplicasDiffer { group, index, replicas, heal: found.is_minority }));
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
        let Ok((_, index)) = self.raft.propose(entry) else { return false };
        (self.last_bare_stamp, self.last_stamped) = (index, index);
        let members = self.raft.voters().into_iter().chain(self.raft.learners());
        let asked = self.scrub.answering(members.filter(|id| *id == self.node || peers_up.contains(id)));
        let bytes_max = limits.part_bytes;
        for &peer in asked.iter().filter(|id| **id != self.node) {
            self.post(peer, Body::Scrub { index, position: position.clone(), bytes_max }, turn);
        }
        let until_ms = turn.now.mono_ms + PATIENCE * turn.config.timing.election_ms();
        self.scrub.begin(index, asked, until_ms);
        self.scrub.awaited = Some(Part { index, asker: self.node, position, bytes_max });
        true
    }

    /// A leader wants to know. What is applied already, or may be, can not be looked at any more.
    pub(crate) fn asked_to_scrub(&mut self, asker: NodeId, index: LogIndex, position: Bytes, bytes_max: u64) {
        if !self.is_installing() && index > self.handed_to_store() {
            self.scrub.awaited = Some(Part { index, asker, position, bytes_max });
        }
    }

    /// Has entries applied, in two jobs if a part is to be read between them.
    pub(crate) fn store(&mut self, mut entries: Vec<Committed>, turn: &mut Turn) {
        let group = self.group;
        let late = u64::from(is_on(Mutation::ScrubOneLate) && !self.raft.is_leader());
        let is_last = |part: &Part, entry: &Committed| entry.index == LogIndex(part.index.0 + late);
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
        if part.asker == self.node {
            self.scrub.read(index, digest.bytes, digest.next);
            self.scrub.answered(self.node, index, digest.hash);
        } else {
            self.scrub.told = Some((part.asker, index));
            self.post(part.asker, Body::Scrubbed { index, hash: digest.hash }, turn);
        }
    }

    /// The leader says that a majority holds something else than what was told it.
    pub(crate) fn told_that_differs(&mut self, from: NodeId, index: LogIndex, turn: &mut Turn) {
        if self.scrub.told == Some((from, index)) && self.raft.leader() == Some(from) {
            self.scrub.told = None;
            self.differs_here(index, turn);
        }
    }

    fn differs_here(&self, index: LogIndex, turn: &mut Turn) {
        let why = format!(
            "group {}: after entry {index} its state is not what a majority of its replicas has: the store is damaged",
            self.group
        );
        turn.out.push(Output::Report(Event::Damaged(why)));
    }
}
