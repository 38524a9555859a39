//! What makes inputs and outputs the same, for the trace: everything in them, value by value, without the detour over text. The
//! matches name every variant, so that a new one cannot be left out.

use std::hash::{Hash, Hasher};

use drey_core::{Input, Output};

/// An input, as the trace takes it down.
pub struct OfInput<'a>(pub &'a Input);

/// An output, as the trace takes it down.
pub struct OfOutput<'a>(pub &'a Output);

impl Hash for OfInput<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self.0).hash(state);
        match self.0 {
            Input::Request(id, request) => (id, request).hash(state),
            // What is in it was taken down with the checksum of its frame.
            Input::Message(from, envelope) => (from, envelope.group).hash(state),
            Input::PeerUp(peer) | Input::PeerDown(peer) | Input::PeerGone(peer) => peer.hash(state),
            Input::Members(members) => members.hash(state),
            Input::LogSynced(ticket) => ticket.hash(state),
            Input::LogFailed(ticket, why) => (ticket, why).hash(state),
            Input::SegmentReady(segment) => segment.hash(state),
            Input::Storage(done) => done.hash(state),
            Input::Room(room) => room.hash(state),
            Input::HandOver | Input::Tick => {}
        }
    }
}

impl Hash for OfOutput<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self.0).hash(state);
        match self.0 {
            // What is written is taken down as bytes.
            Output::WriteLog(ticket, write) => (ticket, write.segment, write.offset, write.sequence()).hash(state),
            Output::PrepareSegment(segment) | Output::ReleaseSegment(segment) => segment.hash(state),
            Output::ReleaseEarlierEpochs => {}
            // So is what is sent.
            Output::Send(to, envelope) => (to, envelope.group).hash(state),
            Output::Storage(job) => job.hash(state),
            Output::Members(members) | Output::Link(members) => members.hash(state),
            Output::Submit(command) => command.hash(state),
            Output::Wake(after_ms) => after_ms.hash(state),
            Output::Reply(id, answer) => (id, answer).hash(state),
            Output::Report(event) => event.hash(state),
        }
    }
}
