//! How a request finds who leads its group, and its answer finds who asked.

use std::mem;

use crate::error::Error;
use crate::limits::REQUESTS_PENDING_MAX;
use crate::output::Output;
use crate::proposals::Waiter;
use crate::request::{Command, Operation, Reply, Request};
use crate::requests::{Asker, Pending, Stage};
use crate::room::Verdict;
use crate::shard::Shard;
use crate::types::{GroupId, NodeId, RequestId, Tick};
use crate::wire::{Body, Envelope};

impl Shard {
    pub(crate) fn request(&mut self, now: Tick, id: RequestId, request: Request, out: &mut Vec<Output>) {
        if self.requests.len() >= REQUESTS_PENDING_MAX {
            self.requests_refused += 1;
            let error = Error::Overloaded(format!("{REQUESTS_PENDING_MAX} requests are waiting"));
            return out.push(Output::Reply(id, Err(error)));
        }
        let deadline_ms = request.deadline_ms;
        let outcome = match request.operation {
            Operation::Status => return out.push(Output::Reply(id, Ok(Reply::Status(self.status())))),
            Operation::Write(command) => self.accept_write(now, id, deadline_ms, command),
            Operation::Transfer(group, to) => {
                let answer = self.transfer(group, to, out);
                return out.push(Output::Reply(id, answer));
            }
            Operation::Read(group, mode, op) => self.accept_read(now, (id, deadline_ms), group, mode, op, out),
        };
        if let Err(error) = outcome {
            out.push(Output::Reply(id, Err(error)));
        }
    }

    fn accept_write(&mut self, now: Tick, id: RequestId, deadline_ms: u64, command: Command) -> Result<(), Error> {
        command.validate()?;
        let group = command.group(self.config.groups);
        if !self.replicas.contains_key(&group) {
            return Err(Error::NotReady(format!("group {group} does not live on shard {}", self.config.shard)));
        }
        let until_ms = now.mono_ms + self.config.timing.leader_wait_ms;
        self.requests
            .insert(id, Pending { deadline_ms, stage: Stage::Leader { group, command, until_ms }, asker: None });
        Ok(())
    }

    /// Brings the writes that wait for a leader to it, here or on a peer.
    pub(crate) fn send_to_leaders(&mut self, now: Tick, out: &mut Vec<Output>) {
        let mut waiting = self.requests.take_leaderless();
        waiting.retain(|&id| !self.send_to_leader(now, id, out));
        self.requests.keep_leaderless(waiting);
    }

    /// False: it goes on waiting.
    fn send_to_leader(&mut self, now: Tick, id: RequestId, out: &mut Vec<Output>) -> bool {
        // It was answered meanwhile.
        let Some(pending) = self.requests.get_mut(id) else { return true };
        let deadline_in_ms = pending.deadline_ms.saturating_sub(now.mono_ms);
        let Stage::Leader { group, .. } = pending.stage else { return true };
        let Some(replica) = self.replicas.get(&group) else { return true };
        // While the leadership is handed over nothing is proposed: better to wait a moment than to be refused.
        let leads = replica.raft.is_leader() && !replica.raft.is_handing_over();
        // Nor is it where there is no room, as long as another can be made to lead.
        let belongs_elsewhere =
            |command| self.rooms.judge(command, self.config.node, || replica.raft.voters()) == Verdict::Elsewhere;
        if leads && matches!(&pending.stage, Stage::Leader { command, .. } if belongs_elsewhere(command)) {
            return false;
        }
        let peer = replica.raft.leader().filter(|leader| self.peers_up.contains(leader));
        if !leads && peer.is_none() {
            return false;
        }
        let Stage::Leader { command, until_ms, .. } = mem::replace(&mut pending.stage, Stage::Here) else {
            return true;
        };
        if leads {
            match self.preflight(now, &command) {
                Err(error) => self.answers.push((Waiter::Local(id), Err(error))),
                Ok(()) => self.one(now, group, out, |replica, turn| replica.write(&command, Waiter::Local(id), turn)),
            }
        } else if let Some(peer) = peer {
            let forward = self.requests.forward(id);
            let body = Body::Forward { id: forward, deadline_in_ms, command: command.clone() };
            out.push(Output::Send(peer, Envelope { group, body }));
            if let Some(pending) = self.requests.get_mut(id) {
                pending.stage = Stage::Peer { group, command, peer, forward, until_ms };
            }
        }
        true
    }

    /// A peer answered a forwarded request. A write that it did not propose can be brought elsewhere.
    pub(crate) fn forward_reply(
        &mut self,
        from: NodeId,
        group: GroupId,
        forward: u64,
        reply: Result<Reply, Error>,
        out: &mut Vec<Output>,
    ) {
        let Some(id) = self.requests.forwarded(from, forward) else {
            return self.late_answer(from, group, reply, out);
        };
        let Some(pending) = self.requests.get_mut(id) else { return };
        match mem::replace(&mut pending.stage, Stage::Here) {
            Stage::Peer { group, command, until_ms, .. } if reply == Err(Error::NoLeader) => {
                self.requests.wait_for_leader(id, Stage::Leader { group, command, until_ms });
            }
            stage @ Stage::ReadingAt { .. } => {
                pending.stage = stage;
                self.read_answered(from, group, id, reply);
            }
            _ => self.answers.push((Waiter::Local(id), reply)),
        }
    }

    /// Answers go out: to requests of this node here, to peers with the group that they asked about.
    pub(crate) fn give_answers(&mut self, out: &mut Vec<Output>) {
        let mut answers = mem::take(&mut self.answers);
        for (waiter, answer) in answers.drain(..) {
            match waiter {
                Waiter::Local(id) => {
                    // Unless its deadline was faster.
                    match self.requests.remove(id) {
                        Some(Pending { asker: Some(Asker { peer, group, forward }), .. }) => {
                            out.push(reply_to(peer, group, forward, answer));
                        }
                        Some(_) => out.push(Output::Reply(id, answer)),
                        None => self.close_view(id, &answer, out),
                    }
                }
                Waiter::Peer(group, peer, forward) => out.push(reply_to(peer, group, forward, answer)),
            }
        }
        // Its room is used again.
        self.answers = answers;
    }
}

fn reply_to(peer: NodeId, group: GroupId, forward: u64, reply: Result<Reply, Error>) -> Output {
    Output::Send(peer, Envelope { group, body: Body::ForwardReply { id: forward, reply } })
}
