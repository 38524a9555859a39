//! A leader's part in the membership: its group is moved towards what the members are, and leaders are where they should be.

use std::collections::BTreeSet;

use crate::machine::entry::EntryBuilder;
use crate::mutation::{Mutation, is_on};
use crate::output::{Event, Output};
use crate::replica::{Replica, Turn};
use crate::system::reconcile::{self, Step};
use crate::system::{Founder, Members, SystemWrite};
use crate::types::{LogIndex, NodeId, Term};

/// Between two reports that a member was let go.
const REPORT_EVERY_MS: u64 = 1_000;

/// Whether a majority knows the configuration in force, after a crash too. Before that, those that it let go may still be needed,
/// and those that it made voters may not count yet: members that know only the former configuration elect by its rules.
#[derive(Debug)]
pub(crate) struct Confirmation {
    /// Others vote than those who do for sure.
    wanted: bool,
    /// An entry that was proposed when the configuration was known to be committed, and its term. When it is committed, a majority
    /// has it on disk, and with it what was committed before.
    entry: Option<(Term, LogIndex)>,
    /// Who votes for sure, by what was confirmed last.
    voters: Vec<NodeId>,
}

impl Confirmation {
    /// These vote, by the configuration that was found. Whether a majority knows it is not known, unless it is what the group was
    /// founded with: what was confirmed before a restart is forgotten.
    pub fn recovered(voters: Vec<NodeId>, founders: &[Founder]) -> Confirmation {
        let is_founded = voters.iter().copied().eq(founders.iter().map(|founder| founder.id));
        Confirmation { wanted: !is_founded && !voters.is_empty(), entry: None, voters }
    }

    /// Whether it is still to be made sure.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// The configuration changed: these vote now.
    pub fn begin(&mut self, voters: &[NodeId]) {
        (self.wanted, self.entry) = (voters != self.voters, None);
    }
}

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
        let caught_up = |id| peers.contains(&id) && self.raft.has_caught_up(id);
        match reconcile::next(members, self.group, &configuration, self.node, caught_up) {
            Step::Nothing => {}
            // Whoever is one change behind is in a majority with others; two would be too many.
            _ if !self.may_change(turn) => {}
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

    /// Makes sure of each change of the configuration at once, so that a cluster is soon as large as it says.
    pub(crate) fn confirm_configuration(&mut self, turn: &Turn) {
        let may_ask = self.confirmation.wanted && self.raft.is_settled() && !self.is_installing();
        if may_ask && !self.raft.configuration().is_joint() && self.is_configuration_confirmed(turn) {
            self.confirmation.wanted = false;
            self.confirmation.voters = self.raft.configuration().steady_voters();
        }
    }

    /// Whether the next change may come: this leader knows that a majority knows the last one.
    fn may_change(&mut self, turn: &Turn) -> bool {
        let at_once = is_on(Mutation::OutdatedAreElected) || is_on(Mutation::ChangeBeforeFirstCommit);
        at_once || self.is_configuration_confirmed(turn)
    }

    /// Whether a majority is known to know the configuration. If not, an entry that will show it is proposed.
    fn is_configuration_confirmed(&mut self, turn: &Turn) -> bool {
        let term = self.raft.term();
        if is_on(Mutation::ChangeNotConfirmed) {
            return true;
        }
        match self.confirmation.entry {
            Some((proposed_in, index)) if proposed_in == term => self.raft.committed() >= index,
            _ => {
                let stamp = self.clock.stamp(turn.now);
                let proposed =
                    stamp.map(|stamp| self.raft.propose(EntryBuilder::new().finish(turn.config.epoch, stamp)));
                self.confirmation.entry = proposed.and_then(Result::ok);
                false
            }
        }
    }

    /// Who votes, and will go on voting whatever crashes: a leader knows.
    pub(crate) fn sure_voters(&self) -> Vec<NodeId> {
        let mut voters = self.raft.configuration().steady_voters();
        if self.confirmation.wanted && self.raft.is_leader() {
            voters.retain(|voter| self.confirmation.voters.contains(voter));
        }
        voters
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
