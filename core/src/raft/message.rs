//! A Raft message: opaque outside of this folder, with just enough to trace and count it.

use std::fmt;

use bytes::Bytes;
use prost11::Message as _;
use raft::eraftpb;
use raft::eraftpb::MessageType;

use crate::types::{NodeId, Term};

/// A message between two replicas, checked by the guard before Raft sees it.
#[derive(Clone, PartialEq)]
pub struct Message(pub(super) eraftpb::Message);

/// What a message is, of all that may come from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageKind {
    /// Entries, or the news of what is committed.
    Append,
    /// What the follower has.
    AppendResponse,
    /// The leader is there.
    Heartbeat,
    /// So is the follower; an answer to a read index round, too.
    HeartbeatResponse,
    /// Would there be a vote?
    RequestPreVote,
    /// The answer.
    RequestPreVoteResponse,
    /// Asks for a vote.
    RequestVote,
    /// The answer.
    RequestVoteResponse,
    /// Announces a snapshot.
    Snapshot,
    /// Lead, now.
    TimeoutNow,
    /// Asks a leader for a read index.
    ReadIndex,
    /// The answer.
    ReadIndexResponse,
    /// What no peer sends: the guard refuses it.
    Foreign,
}

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

    /// What it is.
    pub fn kind(&self) -> MessageKind {
        match self.0.get_msg_type() {
            MessageType::MsgAppend => MessageKind::Append,
            MessageType::MsgAppendResponse => MessageKind::AppendResponse,
            MessageType::MsgHeartbeat => MessageKind::Heartbeat,
            MessageType::MsgHeartbeatResponse => MessageKind::HeartbeatResponse,
            MessageType::MsgRequestPreVote => MessageKind::RequestPreVote,
            MessageType::MsgRequestPreVoteResponse => MessageKind::RequestPreVoteResponse,
            MessageType::MsgRequestVote => MessageKind::RequestVote,
            MessageType::MsgRequestVoteResponse => MessageKind::RequestVoteResponse,
            MessageType::MsgSnapshot => MessageKind::Snapshot,
            MessageType::MsgTimeoutNow => MessageKind::TimeoutNow,
            MessageType::MsgReadIndex => MessageKind::ReadIndex,
            MessageType::MsgReadIndexResp => MessageKind::ReadIndexResponse,
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgPropose
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
            | MessageType::MsgTransferLeader => MessageKind::Foreign,
        }
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

/// In a few words.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (m, kind) = (&self.0, self.kind());
        write!(f, "{kind:?}")?;
        match kind {
            MessageKind::Append => match (m.entries.first(), m.entries.last()) {
                (Some(first), Some(last)) if first.index < last.index => write!(f, " {}..{}", first.index, last.index)?,
                (Some(only), _) => write!(f, " {}", only.index)?,
                _ => write!(f, " commit {}", m.commit)?,
            },
            MessageKind::AppendResponse => write!(f, " {}", m.index)?,
            MessageKind::Snapshot => write!(f, " {}", m.get_snapshot().get_metadata().index)?,
            MessageKind::RequestPreVote
            | MessageKind::RequestPreVoteResponse
            | MessageKind::RequestVote
            | MessageKind::RequestVoteResponse
            | MessageKind::TimeoutNow => write!(f, " t{}", m.term)?,
            _ => {}
        }
        if m.reject { f.write_str(" no") } else { Ok(()) }
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
