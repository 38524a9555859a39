//! Which of a shard's groups is compared when.

use crate::output::Output;
use crate::shard::Shard;
use crate::types::Tick;

impl Shard {
    /// Leaders have their replicas compared: one group's at a time, since nobody waits for it.
    pub(crate) fn scrub(&mut self, now: Tick, out: &mut Vec<Output>) {
        let peers = std::mem::take(&mut self.peers_up);
        let members = self.members.clone();
        let may_lead = |id| members.as_ref().is_none_or(|members| members.stays(id));
        let mut is_comparing = false;
        self.each(now, out, |replica, turn| {
            replica.end_scrubbed_part(turn);
            replica.heal(&peers, may_lead);
            is_comparing |= replica.scrub.is_comparing();
        });
        let mut groups: Vec<_> = self.replicas.values().map(|replica| (replica.scrub.rank(), replica.group)).collect();
        groups.sort_unstable();
        for (_, group) in groups {
            self.one(now, group, out, |replica, turn| is_comparing = is_comparing || replica.scrub_part(&peers, turn));
        }
        self.peers_up = peers;
    }
}
