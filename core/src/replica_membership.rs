//! A leader's part in the membership: its group is moved towards what the members are, and leaders are where they should be.

use std::collections::BTreeSet;

use crate::machine::entry::EntryBuilder;
use crate::output::{Event, Output};
use crate::replica::{Replica, Turn};
use crate::system::reconcile::{self, Step};
use crate::system::{Members, SystemWrite};
use crate::types::NodeId;

/// Between two reports that a member was let go.
const REPORT_EVERY_MS: u64 = 1_000;

impl Replica {
    /// Does the next step, if this member leads and no other step is under way. What comes out is to be told to the system group.
    pub(crate) fn reconcile(
        &mut self,
        members: &Members,
        peers: &BTreeSet<NodeId>,
        turn: &mut Turn,
    ) -> Vec<SystemWrite> {
        if !self.raft.is_settled() || self.is_installing() {
            return Vec::new();
        }
        let configuration = self.raft.configuration();
        match reconcile::next(members, &configuration, self.node, |id| self.raft.has_caught_up(id)) {
            Step::Nothing => {}
            Step::LeaveJoint => self.raft.leave_joint(),
            Step::HandOver => self.hand_over(peers, |peer| members.stays(peer)),
            Step::Change(changes) => self.raft.propose_change(&changes),
        }
        let due = self.reported_ms.is_none_or(|reported_ms| turn.now.mono_ms >= reported_ms + REPORT_EVERY_MS);
        if configuration.is_joint() || !due {
            return Vec::new();
        }
        let still_said = |groups: &BTreeSet<_>| groups.contains(&self.group);
        let gone = members.iter().filter(|member| member.leaving.as_ref().is_some_and(still_said));
        let gone = gone.filter(|member| !configuration.has(member.id));
        let gone: Vec<_> = gone.map(|member| member.id).collect();
        if gone.is_empty() || !self.is_configuration_confirmed(turn) {
            return Vec::new();
        }
        let reports: Vec<_> = gone.into_iter().map(|member| SystemWrite::Left { member, group: self.group }).collect();
        self.reported_ms = Some(turn.now.mono_ms);
        reports
    }

    /// Whether a majority knows, after a crash too, that the configuration is committed. Before that, those that were let go may
    /// still be needed: members that know only the former configuration elect by its rules. An entry that is proposed now tells
    /// them; when it is committed, a majority has it on disk, and with it what was committed before.
    fn is_configuration_confirmed(&mut self, turn: &Turn) -> bool {
        let term = self.raft.term();
        match self.confirmation {
            Some((proposed_in, index)) if proposed_in == term => self.raft.committed() >= index,
            _ => {
                let stamp = self.clock.stamp(turn.now);
                let proposed =
                    stamp.map(|stamp| self.raft.propose(EntryBuilder::new().finish(turn.config.epoch, stamp)));
                self.confirmation = proposed.and_then(Result::ok);
                false
            }
        }
    }

    /// Hands its leadership to the voter among `peers` that may have it and has most of the log.
    pub(crate) fn hand_over(&mut self, peers: &BTreeSet<NodeId>, may_lead: impl Fn(NodeId) -> bool) {
        let voters = self.raft.configuration().voters();
        let able = self.raft.matched().into_iter();
        let able = able.filter(|(peer, _)| peers.contains(peer) && voters.contains(peer) && may_lead(*peer));
        if let Some((heir, _)) = able.max_by_key(|(_, matched)| *matched) {
            self.raft.transfer_leadership(heir);
        }
    }

    /// Hands its leadership to this member, if it leads and the member votes and keeps up.
    pub(crate) fn hand_over_to(&mut self, heir: NodeId) {
        let may = heir != self.node && self.raft.configuration().voters().contains(&heir);
        if may && !self.raft.is_handing_over() && self.raft.has_caught_up(heir) {
            self.raft.transfer_leadership(heir);
        }
    }

    /// Says so when the configuration changed.
    pub(crate) fn report_configuration(&self, turn: &mut Turn) {
        let (voters, learners) = (self.raft.voters(), self.raft.learners());
        turn.out.push(Output::Report(Event::Configured(self.group, voters, learners)));
    }
}
