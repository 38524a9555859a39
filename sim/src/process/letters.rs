//! What a process hears and says.

use drey_core::request::{Command, Operation, Reply, Request};
use drey_core::wire::frame::HEADER_BYTES;
use drey_core::wire::handshake::Acquaintances;
use drey_core::{Error, Input, NodeId, RequestId};

use super::{Process, SUBMIT_TIMEOUT_MS, SUBMITTED};
use crate::checker::Violation;
use crate::clients::request_ids;
use crate::driver::{Datagram, Net};
use crate::faults::Fault;
use crate::identity::OfInput;
use crate::network::CLIENTS;
use crate::shared::Shared;
use crate::story::{Event, Parcel, Topic, What, words};

impl Process {
    /// Notices the links that ended with a peer's process, and dials those peers again.
    pub(super) fn dial(&mut self, shared: &mut Shared) {
        let (own, now_ms, network, exchange) = (self.host, shared.now_ms, &shared.network, &shared.exchange);
        let refuses = |host| exchange.refuses(host).filter(|_| !network.is_cut(own, host));
        let closed = self.links.closed(now_ms, refuses);
        let gone = self.links.dial(now_ms, refuses);
        closed.into_iter().for_each(|peer| self.tell_all(&Input::PeerDown(peer), shared));
        gone.into_iter().for_each(|peer| self.say_gone(peer, shared));
    }

    /// Somebody else may have its address, or refuse for it: such news can be wrong.
    pub(super) fn say_gone(&mut self, peer: NodeId, shared: &mut Shared) {
        shared.faults.happened(Fault::SaidGone);
        self.tell_all(&Input::PeerGone(peer), shared);
    }

    /// Requests come in from clients.
    pub(super) fn asked(&mut self, datagram: &Datagram, shared: &mut Shared) {
        for id in request_ids(&datagram.body) {
            // A client that has given up takes its question back.
            let Some(asked) = shared.exchange.asked.get(&id) else { continue };
            if asked.operation == Operation::Status {
                self.unanswered.insert(id, shared.now_ms + asked.deadline_in_ms);
                self.ask_all(id, shared);
                continue;
            }
            let shard = asked.operation.group(self.config.groups).map_or(0, |group| self.shard_of(group));
            let deadline_ms = self.clock.read(shared.now_ms).mono_ms + asked.deadline_in_ms;
            let request = Request { deadline_ms, operation: asked.operation.clone() };
            let text = format_args!("n{}.{shard} <- {id} {request:?}", self.node);
            shared.trace.identified(&(self.node, shard, id, &request), text);
            shared.coverage.request(&request);
            let (own, group) = (self.host, asked.operation.group(self.config.groups));
            shared.trace.tell(|| {
                let event = Event::new(own, Topic::Client, format!("{id}: {}", words::operation(&request.operation)));
                Some(event.of(group).did(What::Got(CLIENTS, Parcel::Request(id.0))))
            });
            self.unanswered.insert(id, shared.now_ms + asked.deadline_in_ms);
            if let Err(error) = self.shards[shard].inbox.request(id, request) {
                self.answer(id, Err(error), shared);
            }
        }
    }

    /// A write of the node's own, which nobody waits for.
    pub(super) fn submit(&mut self, command: Command, now_ms: u64, shared: &mut Shared) {
        self.submitted += 1;
        let id = RequestId(SUBMITTED + self.submitted);
        let shard = self.shard_of(command.group(self.config.groups));
        let request = Request { deadline_ms: now_ms + SUBMIT_TIMEOUT_MS, operation: Operation::Write(command) };
        shared.trace.silently(&(self.node, shard, id, &request));
        // One that is refused is made again.
        let _ = self.shards[shard].inbox.request(id, request);
    }

    /// A peer's datagram comes in.
    pub(super) fn heard(&mut self, datagram: &Datagram, known: &mut Acquaintances, shared: &mut Shared) {
        let (peer, heard) = match self.links.hear(shared.now_ms, (datagram.from, &datagram.body), known) {
            Ok(heard) => heard,
            Err(why) => {
                let seen = format!("node {} from host {}: {why}", self.node, datagram.from);
                return shared.violated(Violation::new("peers understand each other", seen));
            }
        };
        if !datagram.is_copy {
            shared.faults.happened_times(Fault::Reordered, heard.late);
        }
        if heard.down {
            self.tell_all(&Input::PeerDown(peer), shared);
        }
        if heard.up {
            if heard.is_of_older {
                shared.happened(self.host, Fault::OlderProgram, format_args!("on one end of the link to node {peer}"));
            }
            self.tell_all(&Input::PeerUp(peer), shared);
        }
        for frame in heard.frames {
            // Its header has a checksum of all of it.
            let header = frame.bytes.first_chunk::<HEADER_BYTES>();
            let text = format_args!("n{} <- n{peer} {:?}", self.node, frame.envelopes);
            shared.trace.identified(&(self.node, peer, header), text);
            for (place, envelope) in frame.envelopes.iter().enumerate() {
                let (own, from) = (self.host, datagram.from);
                shared.trace.tell(|| {
                    let (topic, text) = words::envelope(envelope);
                    let got = What::Got(from, frame.parcel((from, own), place)?);
                    Some(Event::new(own, topic, text).of(envelope.group).did(got))
                });
            }
            for envelope in frame.envelopes {
                let shard = self.shard_of(envelope.group);
                shared.coverage.message(&envelope);
                let input = Input::Message(peer, envelope);
                shared.trace.silently(&(self.node, shard, OfInput(&input)));
                self.shards[shard].inbox.push(input);
            }
        }
    }

    /// Answers a request, once.
    pub(super) fn answer(&mut self, id: RequestId, answer: Result<Reply, Error>, shared: &mut Shared) {
        shared.trace.identified(&(self.node, id, &answer), format_args!("n{} -> {id} {answer:?}", self.node));
        if id.0 >= SUBMITTED {
            return self.collect(id, &answer, shared);
        }
        if let Err(error) = &answer {
            shared.coverage.error(error);
        }
        if self.unanswered.remove(&id).is_none() {
            let seen = format!("node {} answered {id}, which nobody asked or which it had answered", self.node);
            return shared.violated(Violation::new("each request is answered once", seen));
        }
        let own = self.host;
        shared.trace.tell(|| {
            let event = Event::new(own, Topic::Client, format!("{id}: {}", words::answer(&answer)));
            Some(event.did(What::Sent(CLIENTS, Parcel::Answer(id.0))))
        });
        shared.exchange.answers.insert(id, answer);
        self.replies.extend_from_slice(&id.0.to_le_bytes());
    }

    /// What is said to others in this tick.
    pub(super) fn flush(&mut self, shared: &mut Shared, net: &mut dyn Net) {
        let (own, node) = (self.host, self.node);
        if !self.replies.is_empty() {
            shared.send(net, (own, CLIENTS), std::mem::take(&mut self.replies).into());
        }
        shared.faults.happened_times(Fault::LinkFull, std::mem::take(&mut self.links.crowded_out));
        self.links.flush(shared.now_ms, |to, host, datagram| {
            // Its envelopes were taken down as they were sent.
            let text = format_args!("n{node} -> n{to} {} bytes", datagram.len());
            shared.trace.identified(&(node, to, datagram.len()), text);
            shared.send(net, (own, host), datagram);
        });
    }
}
