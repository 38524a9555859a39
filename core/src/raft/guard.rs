//! What a peer's message must be before Raft sees it. raft-rs trusts its peers: a message from a program gone wrong, or an
//! old one of another history, can make it panic. Everything refused here is dropped as if the network had lost it.

use prost11::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeV2, Entry, EntryType, Message, MessageType};

use super::membership;
use crate::types::NodeId;

/// Terms and indexes stay below, so that nothing that is added to them overflows.
pub(crate) const NUMBER_MAX: u64 = 1 << 48;
/// Contexts of read indexes are 16 bytes long; raft-rs's own for transfers is shorter.
const CONTEXT_BYTES_MAX: usize = 64;

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not what a sane peer sends.
    Malformed(&'static str),
    /// The rightful leader knows of entries that were acknowledged here and are gone: this disk was rolled back.
    RolledBack,
}

/// What the guard must know of the receiving node.
pub(super) struct Receiver {
    pub id: NodeId,
    pub term: u64,
    pub leader: u64,
    pub last_index: u64,
    pub entry_bytes_max: usize,
}

/// Checks one message from the peer `from`.
pub(super) fn check(to: &Receiver, from: NodeId, m: &Message) -> Result<(), Refused> {
    check_shape(to, from, m).map_err(Refused::Malformed)?;
    let heartbeat_past_the_end = m.get_msg_type() == MessageType::MsgHeartbeat && m.commit > to.last_index;
    if heartbeat_past_the_end {
        // A leader sends at most the commit index that this node has confirmed to hold.
        return Err(if m.term >= to.term { Refused::RolledBack } else { Refused::Malformed("an old heartbeat") });
    }
    Ok(())
}

fn check_shape(to: &Receiver, from: NodeId, m: &Message) -> Result<(), &'static str> {
    if m.to != to.id.0 || m.from != from.0 || m.from == to.id.0 || m.from == 0 {
        return Err("wrong addressee or sender");
    }
    let numbers = [
        m.term,
        m.log_term,
        m.index,
        m.commit,
        m.commit_term,
        m.reject_hint,
        m.request_snapshot,
        m.deprecated_priority,
    ];
    if numbers.iter().any(|&number| number >= NUMBER_MAX) || m.priority != 0 || m.deprecated_priority != 0 {
        return Err("a number out of range");
    }
    if m.context.len() > CONTEXT_BYTES_MAX {
        return Err("a context that is too long");
    }
    let kind = MessageType::from_i32(m.msg_type).ok_or("an unknown type")?;
    if (m.term == 0) != (kind == MessageType::MsgReadIndex) {
        return Err("a term where there is none, or none where one must be");
    }
    if m.has_snapshot() && kind != MessageType::MsgSnapshot {
        return Err("a snapshot in another message");
    }
    match kind {
        MessageType::MsgAppend => check_append(to, m),
        MessageType::MsgSnapshot => check_snapshot(m),
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => check_read_index(m),
        MessageType::MsgAppendResponse => {
            no_entries(m)?;
            let within = [m.index, m.reject_hint, m.request_snapshot].iter().all(|&index| index <= to.last_index);
            // Of an older or newer term Raft itself drops it or steps down first.
            if within || m.term != to.term { Ok(()) } else { Err("an answer about entries that were never sent") }
        }
        MessageType::MsgTimeoutNow => {
            no_entries(m)?;
            if m.from == to.leader { Ok(()) } else { Err("a transfer by another than the leader") }
        }
        MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse => no_entries(m),
        // Proposals come as forwarded requests, which are tracked; the rest is local to a node.
        _ => Err("a type that peers do not send"),
    }
}

fn no_entries(m: &Message) -> Result<(), &'static str> {
    if m.entries.is_empty() { Ok(()) } else { Err("entries in a message that has none") }
}

fn check_append(to: &Receiver, m: &Message) -> Result<(), &'static str> {
    if (m.index == 0) != (m.log_term == 0) || m.log_term > m.term {
        return Err("an append behind an impossible entry");
    }
    let (mut index, mut term) = (m.index, m.log_term);
    for entry in &m.entries {
        if entry.index != index + 1 || entry.term < term || entry.term > m.term {
            return Err("entries out of order");
        }
        (index, term) = (entry.index, entry.term);
        if entry.data.len() + entry.context.len() > to.entry_bytes_max {
            return Err("an entry that is too large for the log");
        }
        check_entry(entry)?;
    }
    Ok(())
}

fn check_entry(entry: &Entry) -> Result<(), &'static str> {
    let decodes = match EntryType::from_i32(entry.entry_type).ok_or("an entry of an unknown type")? {
        EntryType::EntryNormal => true,
        EntryType::EntryConfChange => ConfChange::decode(entry.data.clone()).is_ok(),
        EntryType::EntryConfChangeV2 => ConfChangeV2::decode(entry.data.clone()).is_ok(),
    };
    if decodes { Ok(()) } else { Err("a configuration change that is no protobuf") }
}

fn check_snapshot(m: &Message) -> Result<(), &'static str> {
    no_entries(m)?;
    let meta = m.get_snapshot().get_metadata();
    if meta.index == 0 || meta.index >= NUMBER_MAX || meta.term == 0 || meta.term > m.term {
        return Err("a snapshot of an impossible entry");
    }
    membership::check(meta.get_conf_state())
}

fn check_read_index(m: &Message) -> Result<(), &'static str> {
    match m.entries.as_slice() {
        [only] if !only.data.is_empty() && only.data.len() <= CONTEXT_BYTES_MAX => Ok(()),
        _ => Err("a read index without its context"),
    }
}
