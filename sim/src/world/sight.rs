//! What somebody sees who sees the whole world at once: who leads, who votes, whether all is as it should be.

use std::cell::Ref;

use drey_core::placement::all_groups;
use drey_core::{GroupId, NodeId};

use super::World;
use crate::hunts::Sighting;
use crate::node::Node;
use crate::operator::Doing;

impl World {
    /// The hosts with a member.
    pub fn member_hosts(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().map(|node| node.borrow());
        nodes.filter(|node| node.member().is_some()).map(|node| node.host()).collect()
    }

    /// What every running member makes of a group.
    pub fn sightings(&self, group: GroupId) -> Vec<Sighting> {
        let nodes = self.nodes.iter().map(|node| node.borrow());
        let sighting = |node: Ref<'_, Node>| {
            node.member()?;
            node.process.as_ref().filter(|process| !process.is_dead())?.sighting(group)
        };
        nodes.filter_map(sighting).collect()
    }

    /// A learner that has all of a group's log, by what its leader on a host knows.
    pub fn equal_learner(&self, leader: usize, group: GroupId) -> Option<NodeId> {
        self.nodes[leader - 1].borrow().process.as_ref()?.equal_learner(group)
    }

    /// A host without a member.
    pub fn spare_host(&self) -> Option<usize> {
        let members = self.member_hosts();
        (1..=self.plan.hosts()).find(|host| !members.contains(host))
    }

    /// Whether a host's node knows that another's is to leave.
    pub fn knows_leaving(&self, host: usize, leaver: usize) -> bool {
        let leaver = self.nodes[leaver - 1].borrow().id();
        let shared = self.shared.borrow();
        shared.exchange.members.get(&host).is_some_and(|members| !members.stays(leaver))
    }

    /// Whether no change was asked for that is not done.
    pub fn is_operator_idle(&self) -> bool {
        matches!(self.operator.doing, Doing::Nothing(_))
    }

    /// Whether nobody is joining or leaving, and every group has the members as its voters.
    pub fn is_settled(&self) -> bool {
        if !self.is_operator_idle() {
            return false;
        }
        let mut members: Vec<NodeId> = self.nodes.iter().filter_map(|node| Some(node.borrow().member()?.id)).collect();
        members.sort_unstable();
        all_groups(self.plan.groups).all(|group| {
            let nodes = self.nodes.iter().map(|node| node.borrow());
            let configurations = nodes.filter_map(|node| Some(node.process.as_ref()?.configuration(group)));
            let latest = configurations.max_by_key(|(applied, _)| *applied);
            latest.is_some_and(|(_, latest)| {
                let mut voters = latest.voters();
                voters.sort_unstable();
                voters == members && latest.learners().is_empty() && !latest.is_joint()
            })
        })
    }

    /// Whether each group's leader says that all members vote, so that a minority of them may be lost.
    pub(super) fn is_as_large_as_it_seems(&self) -> bool {
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.borrow()).collect();
        let mut ids: Vec<NodeId> = nodes.iter().filter_map(|node| Some(node.member()?.id)).collect();
        ids.sort_unstable();
        let running: Vec<_> =
            nodes.iter().filter_map(|node| node.process.as_ref()).filter(|process| !process.is_dead()).collect();
        all_groups(self.plan.groups)
            .all(|group| running.iter().any(|process| process.sure_voters(group).as_ref() == Some(&ids)))
    }

    /// How many hosts had no member at first.
    pub fn plan_spares(&self) -> usize {
        self.plan.spares
    }

    /// The host of the node that leads a group, if there is one that says so.
    pub fn leader_host(&self, group: GroupId) -> Option<usize> {
        let nodes = self.nodes.iter().map(|node| node.borrow());
        let leads =
            |node: &Ref<'_, Node>| node.process.as_ref().is_some_and(|process| process.sure_voters(group).is_some());
        nodes.filter(leads).map(|node| node.host()).next()
    }

    /// The term in which a host's node is in a group.
    pub fn term(&self, host: usize, group: GroupId) -> Option<u64> {
        self.nodes[host - 1].borrow().process.as_ref()?.term(group)
    }

    /// Who the members are and what every group makes of it, for people.
    pub fn describe_members(&self) -> String {
        let members = self.clients.borrow().members.as_ref().map_or(String::new(), |members| members.to_string());
        let mut text = format!("{:?}, members {members}", self.operator.doing);
        for node in self.nodes.iter().map(|node| node.borrow()) {
            let Some(process) = &node.process else { continue };
            for group in all_groups(self.plan.groups) {
                let (applied, configuration) = process.configuration(group);
                text += &format!("; node {} group {group} at {applied}: {configuration:?}", node.id());
            }
        }
        text
    }
}
