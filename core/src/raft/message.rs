//! A Raft message: opaque outside of this folder, with just enough to trace it.

use std::fmt;

use bytes::Bytes;
use prost11::Message as _;
use raft::eraftpb;
use raft::eraftpb::MessageType;

use crate::types::{NodeId, Term};

/// A message between two replicas, checked by the guard before Raft sees it.
#[derive(Clone, PartialEq)]
pub struct Message(pub(super) eraftpb::Message);

impl Message {
    /// Reads a message as [`Self::encode`] wrote it. Payloads are shared with `bytes`, not copied.
    pub fn decode(bytes: Bytes) -> Result<Message, &'static str> {
        eraftpb::Message::decode(bytes).map(Message).map_err(|_| "a Raft message that is no protobuf")
    }

    /// Appends the message's protobuf encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out).expect("a Vec takes all");
    }

    /// The size of the encoding, in bytes.
    pub fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    /// Who sends it.
    pub fn from(&self) -> NodeId {
        NodeId(self.0.from)
    }

    /// To whom.
    pub fn to(&self) -> NodeId {
        NodeId(self.0.to)
    }

    /// The sender's term; 0 for a forwarded read index.
    pub fn term(&self) -> Term {
        Term(self.0.term)
    }

    /// Whether it brings entries.
    pub(crate) fn has_entries(&self) -> bool {
        !self.0.entries.is_empty() && self.0.get_msg_type() == MessageType::MsgAppend
    }

    /// Whether it answers who asked for a vote.
    pub(super) fn is_vote(&self) -> bool {
        self.0.get_msg_type() == MessageType::MsgRequestVoteResponse
    }

    /// Whether it answers a leader that sent entries.
    pub(super) fn is_append_response(&self) -> bool {
        self.0.get_msg_type() == MessageType::MsgAppendResponse
    }

    /// Whether its leader asks the receiver to lead.
    pub(crate) fn is_timeout_now(&self) -> bool {
        self.0.get_msg_type() == MessageType::MsgTimeoutNow
    }

    /// Whether it announces a snapshot.
    pub(crate) fn is_snapshot(&self) -> bool {
        self.0.get_msg_type() == MessageType::MsgSnapshot
    }

    /// Whether it promises nothing that a crash could break, as long as the term in it is on disk: an answer to a heartbeat,
    /// a question for a read index.
    pub(super) fn promises_nothing(&self) -> bool {
        matches!(self.0.get_msg_type(), MessageType::MsgHeartbeatResponse | MessageType::MsgReadIndex)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.0;
        write!(f, "{:?} {}->{} term {}", m.get_msg_type(), m.from, m.to, m.term)?;
        if m.index > 0 || m.log_term > 0 {
            write!(f, " at {}/{}", m.index, m.log_term)?;
        }
        if m.commit > 0 {
            write!(f, " commit {}", m.commit)?;
        }
        if let (Some(first), Some(last)) = (m.entries.first(), m.entries.last()) {
            write!(f, " entries {}..={}", first.index, last.index)?;
        }
        if m.reject {
            write!(f, " reject hint {}", m.reject_hint)?;
        }
        if m.has_snapshot() {
            write!(f, " snapshot {}", m.get_snapshot().get_metadata().index)?;
        }
        Ok(())
    }
}
