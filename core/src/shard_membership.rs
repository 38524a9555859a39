//! What a shard does about who the members are.

use std::sync::Arc;

use crate::error::Error;
use crate::output::Output;
use crate::placement::SYSTEM_GROUP;
use crate::replica::Replica;
use crate::request::{Command, Reply, Write};
use crate::room::RoomLevel;
use crate::shard::Shard;
use crate::spread::{self, Offer, SPREAD_AFTER_MS, SPREAD_EVERY_MS};
use crate::system::{Members, SystemWrite, preflight};
use crate::types::{GroupId, NodeId, Tick};
use crate::wire::{Body, Envelope};

/// A leave that was let pass is applied by then, or never.
const JUDGED_LEAVE_MS: u64 = 5_000;

impl Shard {
    /// A link to a peer stands. It may have been away while the members changed.
    pub(crate) fn peer_up(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        self.peers_up.insert(peer);
        if let Some(members) = &self.members
            && self.replicas.contains_key(&SYSTEM_GROUP)
        {
            let body = Body::Members(Arc::clone(members));
            out.push(Output::Send(peer, Envelope { group: SYSTEM_GROUP, body }));
        }
    }

    /// What is news about the members, all shards of this node are told.
    pub(crate) fn tell(&mut self, members: Option<Arc<Members>>) {
        let is_new = |members: &Arc<Members>| {
            let known = [&self.members, &self.members_to_tell];
            known.into_iter().flatten().all(|known| known.changes() < members.changes())
        };
        if let Some(members) = members.filter(is_new) {
            self.members_to_tell = Some(members);
        }
    }

    /// Peers that have no part in the system group are told by those that have one: else they would hear of what is new only when their
    /// link comes up again. One that leads other groups may have been asked to leave before the system group took it in.
    pub(crate) fn tell_outsiders(&self, members: &Arc<Members>, out: &mut Vec<Output>) {
        let Some(replica) = self.replicas.get(&SYSTEM_GROUP) else { return };
        let known = replica.raft.configuration();
        if known.has(self.config.node) {
            for &peer in self.peers_up.iter().filter(|peer| !known.has(**peer)) {
                let body = Body::Members(Arc::clone(members));
                out.push(Output::Send(peer, Envelope { group: SYSTEM_GROUP, body }));
            }
        }
    }

    /// Learns who the members are.
    pub(crate) fn meet(&mut self, members: Arc<Members>, out: &mut Vec<Output>) {
        if self.members.as_ref().is_none_or(|known| known.changes() <= members.changes()) {
            self.members = Some(Arc::clone(&members));
            out.push(Output::Link(members));
        }
    }

    /// Brings every group that is led here nearer to what the members are.
    pub(crate) fn reconcile(&mut self, now: Tick, out: &mut Vec<Output>) {
        let Some(members) = self.members.clone() else { return };
        let peers = std::mem::take(&mut self.peers_up);
        let mut reports = Vec::new();
        self.each(now, out, |replica, turn| reports.extend(replica.reconcile(&members, &peers, turn)));
        self.peers_up = peers;
        out.extend(reports.into_iter().map(|report| Output::Submit(Command::system(report))));
    }

    /// Hands one group over to a member that leads fewer.
    pub(crate) fn spread(&mut self, now: Tick) {
        if now.mono_ms < self.spread_ms + SPREAD_EVERY_MS {
            return;
        }
        self.spread_ms = now.mono_ms;
        let Some(members) = &self.members else { return };
        if !self.replicas.values().any(Replica::leads_others) {
            return;
        }
        let groups: Vec<_> = self.replicas.values().map(|replica| replica.status(now.mono_ms)).collect();
        let own = self.config.node;
        let refused = |id| self.offered.is_some_and(|offer| offer.was_refused_by(id, &groups, own, now.mono_ms));
        let has_room = |id| self.rooms.of_peer(id) == RoomLevel::Enough;
        let may_lead = |id| members.stays(id) && self.peers_up.contains(&id) && !refused(id) && has_room(id);
        let may_go = |group: GroupId| {
            let led_since_ms = self.replicas.get(&group).and_then(|replica| replica.led_since_ms);
            led_since_ms.is_some_and(|since_ms| now.mono_ms >= since_ms + SPREAD_AFTER_MS)
        };
        if let Some((group, heir)) = spread::next(&groups, own, may_lead, may_go)
            && let Some(replica) = self.replicas.get_mut(&group)
        {
            replica.hand_over_to(heir);
            self.offered = Some(Offer { group, to: heir, at_ms: now.mono_ms });
        }
    }

    /// Hands over everything that is led here: this node is about to stop.
    pub(crate) fn hand_over(&mut self) {
        let Shard { replicas, peers_up, members, .. } = self;
        let may_lead = |id| members.as_ref().is_none_or(|members| members.stays(id));
        replicas.values_mut().for_each(|replica| replica.hand_over(peers_up, may_lead));
    }

    /// Has a group's leader hand over to a member.
    pub(crate) fn transfer(&mut self, group: GroupId, to: NodeId, out: &mut Vec<Output>) -> Result<Reply, Error> {
        let shard = self.config.shard;
        let replica = self
            .replicas
            .get_mut(&group)
            .ok_or_else(|| Error::NotReady(format!("group {group} does not live on shard {shard}")))?;
        match replica.raft.leader() {
            None => return Err(Error::NoLeader),
            Some(leader) if leader == to => {}
            Some(leader) if leader == self.config.node => replica.hand_over_to(to),
            Some(leader) => out.push(Output::Send(leader, Envelope { group, body: Body::Transfer { to } })),
        }
        Ok(Reply::Done)
    }

    /// Refuses, as leader of the system group, to let a member go that cannot be spared. One is judged at a time: until the
    /// members show that the last one leaves, or it did not come to that, the next would be judged by what is no longer so.
    pub(crate) fn preflight(&mut self, now: Tick, command: &Command) -> Result<(), Error> {
        let Write::System(SystemWrite::Leave { member }) = command.write else { return Ok(()) };
        match (&self.members, self.replicas.get(&SYSTEM_GROUP)) {
            (Some(members), Some(replica)) if replica.raft.is_leader() => {
                if let Some((other, until_ms)) = self.judged_leave
                    && other != member
                    && members.stays(other)
                    && now.mono_ms < until_ms
                {
                    return Err(Error::Overloaded("another member is being removed: try again in a moment".into()));
                }
                let voters = replica.raft.configuration().voters();
                preflight::check(members, &voters, member, self.config.node, &self.peers_up)?;
                self.judged_leave = Some((member, now.mono_ms + JUDGED_LEAVE_MS));
                Ok(())
            }
            // Whoever leads will look.
            _ => Ok(()),
        }
    }
}
