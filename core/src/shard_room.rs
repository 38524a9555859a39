//! What a shard does about the room that is left on the disks.

use crate::mutation::{Mutation, is_on};
use crate::output::{Event, Output};
use crate::room::{Room, RoomLevel};
use crate::shard::Shard;
use crate::types::Tick;
use crate::wire::{Body, Envelope};

/// A leader that has just been elected waits for so many ticks until it looks for one that has room: by then it was told who has.
const TOLD_WITHIN_TICKS: u64 = 3;

impl Shard {
    /// The disks were looked at.
    pub(crate) fn look_at_room(&mut self, room: Room, out: &mut Vec<Output>) {
        if let Some(level) = self.rooms.look(room) {
            self.made_room_ms = 0;
            out.push(Output::Report(Event::RoomChanged(room, level)));
        }
    }

    /// Leaders are told how it is here; and what is led here, others should lead who have room.
    pub(crate) fn care_for_room(&mut self, now: Tick, out: &mut Vec<Output>) {
        if let Some(level) = self.rooms.tick(now.mono_ms) {
            for (&group, replica) in &self.replicas {
                if let Some(leader) = replica.raft.leader().filter(|leader| *leader != self.config.node) {
                    out.push(Output::Send(leader, Envelope { group, body: Body::Room(level) }));
                }
            }
        }
        let timing = &self.config.timing;
        let is_short = self.rooms.own().1 != RoomLevel::Enough && !is_on(Mutation::FullDiskLeads);
        if !is_short || now.mono_ms < self.made_room_ms + timing.election_ms() {
            return;
        }
        self.made_room_ms = now.mono_ms;
        let led_before_ms = now.mono_ms.saturating_sub(TOLD_WITHIN_TICKS * timing.tick_ms);
        let Shard { replicas, rooms, peers_up, members, .. } = self;
        let stays = |id| members.as_ref().is_none_or(|members| members.stays(id));
        let may_lead = |id| stays(id) && rooms.of_peer(id) == RoomLevel::Enough;
        let led =
            replicas.values_mut().filter(|replica| replica.led_since_ms.is_some_and(|at_ms| at_ms <= led_before_ms));
        led.filter(|replica| !replica.raft.is_handing_over()).for_each(|replica| replica.hand_over(peers_up, may_lead));
    }
}
