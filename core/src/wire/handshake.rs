//! The first bytes of a link between peers. The dialing node says who it is and whom it means; the other one answers with
//! the same, or with a reason and closes.
//!
//! ```text
//! magic "DREYPEER" | format u16 | oldest format u16 | kind u8 | cluster u128 | epoch u64 | from u64 | incarnation u64
//! | to u64 | shard u32 | shards u32 | link u64 | members u64 | text length u16 | text | crc32c u32            (little endian)
//! ```
//! The text is the reason of who refuses; of others the version of their program, which may be missing.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::mutation::{Mutation, is_on};
use crate::types::{ClusterId, Incarnation, NodeId};
use crate::wire::format::{FORMAT, FORMAT_OLDEST};

/// The bytes by which a listener tells a peer from other protocols.
pub const MAGIC: &[u8; 8] = b"DREYPEER";
/// The length of a handshake without its reason and checksum, in bytes.
pub const FIXED_BYTES: usize = 8 + 2 + 2 + 1 + 16 + 8 + 8 + 8 + 8 + 4 + 4 + 8 + 8 + 2;
const TALKS: u8 = 0;
const REFUSES: u8 = 1;
const REFUSES_FOR_GOOD: u8 = 2;

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// Who is on the other end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The newest format that the sender speaks.
    pub format: u16,
    /// Of the sender's cluster.
    pub cluster: ClusterId,
    /// Of the sender's cluster: raised by a recovery from a lost quorum.
    pub epoch: u64,
    /// The sender.
    pub from: NodeId,
    /// Of the sender's data directory.
    pub incarnation: Incarnation,
    /// Whom the sender means.
    pub to: NodeId,
    /// The sender's shard.
    pub shard: u32,
    /// How many the sender has.
    pub shards: u32,
    /// Names the link: a later link between the same shards has a higher number.
    pub link: u64,
    /// How many changes of the members the sender knows of: `system::Members::changes`.
    pub members: u64,
    /// None: the sender wants to talk. Otherwise the link is refused.
    pub refused: Option<Refusal>,
}

/// Why a node will not talk to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For people.
    pub reason: String,
    /// It never will: the other one is no member any more, or lost its disk.
    pub for_good: bool,
}

/// What a node is to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A member, with the incarnation that it joined with, if it joined.
    Member(Option<Incarnation>),
    /// It was one.
    Gone,
    /// Not one, or not yet, as far as is known.
    Stranger,
}

/// Why a link cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The bytes are no handshake.
    #[error("this is no drey peer: {0}")]
    Malformed(&'static str),
    /// The peer is too new or too old.
    #[error("the peer speaks formats {oldest} to {newest}, this node {FORMAT_OLDEST} to {FORMAT}")]
    Format {
        /// The peer's oldest.
        oldest: u16,
        /// The peer's newest.
        newest: u16,
    },
    /// The peer refused.
    #[error("refused by the peer: {}", .0.reason)]
    Refused(Refusal),
    /// The peer is not what it should be.
    #[error("{0}")]
    Mismatch(String),
    /// The peer is what it must not be any more.
    #[error("{0}")]
    Outcast(String),
}

impl Hello {
    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with_version("")
    }

    /// The bytes to send, with the sender's version: for people to see, nothing is decided by it. A refusal has no room for it.
    pub fn encode_with_version(&self, version: &str) -> Vec<u8> {
        let mut reason = self.refused.as_ref().map_or(version, |refusal| &refusal.reason).to_owned();
        while reason.len() > REASON_BYTES_MAX {
            reason.pop();
        }
        let mut out = Vec::with_capacity(FIXED_BYTES + reason.len() + 4);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.format.to_le_bytes());
        out.extend_from_slice(&FORMAT_OLDEST.to_le_bytes());
        out.push(match &self.refused {
            None => TALKS,
            Some(Refusal { for_good: false, .. }) => REFUSES,
            Some(Refusal { for_good: true, .. }) => REFUSES_FOR_GOOD,
        });
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        for number in [self.epoch, self.from.0, self.incarnation.0, self.to.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.shard.to_le_bytes());
        out.extend_from_slice(&self.shards.to_le_bytes());
        out.extend_from_slice(&self.link.to_le_bytes());
        out.extend_from_slice(&self.members.to_le_bytes());
        out.extend_from_slice(&(reason.len() as u16).to_le_bytes());
        out.extend_from_slice(reason.as_bytes());
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The format of a link between this end and the other one.
    pub fn common_format(&self, other: &Hello) -> u16 {
        self.format.min(other.format)
    }

    /// How long the whole handshake is, given its first [`FIXED_BYTES`].
    pub fn length(fixed: &[u8; FIXED_BYTES]) -> Result<usize, HandshakeError> {
        if !fixed.starts_with(MAGIC) {
            return Err(HandshakeError::Malformed("wrong magic"));
        }
        let reason = u16::from_le_bytes([fixed[FIXED_BYTES - 2], fixed[FIXED_BYTES - 1]]) as usize;
        if reason > REASON_BYTES_MAX {
            return Err(HandshakeError::Malformed("the reason is too long"));
        }
        Ok(FIXED_BYTES + reason + 4)
    }

    /// The version of the program that sent a whole handshake, as far as it says.
    pub fn version(bytes: &[u8]) -> Option<String> {
        if Hello::decode(bytes).ok()?.refused.is_some() {
            return None;
        }
        let text = bytes.get(FIXED_BYTES..bytes.len().checked_sub(4)?)?;
        let text = std::str::from_utf8(text).ok()?;
        // It is shown to people, on their terminals.
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain.then(|| text.to_owned())
    }

    /// Reads a whole handshake.
    pub fn decode(bytes: &[u8]) -> Result<Hello, HandshakeError> {
        let fixed = bytes.first_chunk::<FIXED_BYTES>().ok_or(HandshakeError::Malformed("cut short"))?;
        if Hello::length(fixed)? != bytes.len() {
            return Err(HandshakeError::Malformed("wrong length"));
        }
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(HandshakeError::Malformed("cut short"))?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
            return Err(HandshakeError::Malformed("wrong checksum"));
        }
        let mut rest = &content[MAGIC.len()..];
        let (newest, oldest) = (take_u16(&mut rest)?, take_u16(&mut rest)?);
        if oldest > FORMAT || newest < FORMAT_OLDEST {
            return Err(HandshakeError::Format { oldest, newest });
        }
        let [kind] = take::<1>(&mut rest)?;
        let hello = Hello {
            format: newest,
            cluster: ClusterId(u128::from_le_bytes(take(&mut rest)?)),
            epoch: u64::from_le_bytes(take(&mut rest)?),
            from: NodeId(u64::from_le_bytes(take(&mut rest)?)),
            incarnation: Incarnation(u64::from_le_bytes(take(&mut rest)?)),
            to: NodeId(u64::from_le_bytes(take(&mut rest)?)),
            shard: u32::from_le_bytes(take(&mut rest)?),
            shards: u32::from_le_bytes(take(&mut rest)?),
            link: u64::from_le_bytes(take(&mut rest)?),
            members: u64::from_le_bytes(take(&mut rest)?),
            refused: None,
        };
        take_u16(&mut rest)?;
        let reason = String::from_utf8_lossy(rest).into_owned();
        let refused = (kind != TALKS).then_some(Refusal { reason, for_good: kind == REFUSES_FOR_GOOD });
        Ok(Hello { refused, ..hello })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], HandshakeError> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(HandshakeError::Malformed("cut short"))?;
    *rest = left;
    Ok(*taken)
}

fn take_u16(rest: &mut &[u8]) -> Result<u16, HandshakeError> {
    Ok(u16::from_le_bytes(take(rest)?))
}

/// Whom a node has met: members, each with the disk that it was first met with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acquaintances {
    /// Members and the incarnations that were seen of them. To be made durable before a link is answered.
    pub incarnations: BTreeMap<NodeId, Incarnation>,
}

impl Acquaintances {
    /// Judges the peer's `hello` against our own. True: the peer was not known before and is now.
    pub fn judge(&mut self, own: &Hello, standing: Standing, hello: &Hello) -> Result<bool, HandshakeError> {
        if let Some(refusal) = &hello.refused {
            return Err(HandshakeError::Refused(refusal.clone()));
        }
        let mismatch = |text: String| Err(HandshakeError::Mismatch(text));
        if hello.cluster != own.cluster {
            return mismatch(format!("it belongs to cluster {}, this node to {}", hello.cluster, own.cluster));
        }
        if hello.epoch != own.epoch {
            return mismatch(format!("it is in epoch {}, this node in {}: it must rejoin", hello.epoch, own.epoch));
        }
        if hello.to != own.from {
            return mismatch(format!("it means node {}, this is node {}", hello.to, own.from));
        }
        let joined_as = match standing {
            Standing::Member(incarnation) if hello.from != own.from => incarnation,
            Standing::Gone => {
                return Err(HandshakeError::Outcast(format!(
                    "node {} was removed from this cluster: it may join anew with an empty data directory",
                    hello.from
                )));
            }
            // It has heard more: it may have joined while this node was away.
            Standing::Stranger
                if hello.members > own.members && hello.from != own.from && !is_on(Mutation::NewcomersAreStrangers) =>
            {
                None
            }
            _ => return mismatch(format!("node {} is no other member of this cluster", hello.from)),
        };
        if hello.shards == 0 || hello.shard >= hello.shards {
            return mismatch(format!("shard {} of {} is impossible", hello.shard, hello.shards));
        }
        match joined_as.as_ref().or(self.incarnations.get(&hello.from)) {
            None => {
                self.incarnations.insert(hello.from, hello.incarnation);
                Ok(true)
            }
            Some(known) if *known == hello.incarnation || is_on(Mutation::WipedNodeVotes) => Ok(false),
            Some(_) => Err(HandshakeError::Outcast(format!(
                "node {} lost its data directory and must not vote again under its id: remove it with `drey remove`, then \
                 start it with an empty data directory and --join",
                hello.from
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(from: u64, to: u64) -> Hello {
        Hello {
            format: FORMAT,
            cluster: ClusterId(7),
            epoch: 0,
            from: NodeId(from),
            incarnation: Incarnation(from * 100),
            to: NodeId(to),
            shard: 0,
            shards: 2,
            link: 3,
            members: 5,
            refused: None,
        }
    }

    #[test]
    fn a_handshake_comes_back_as_it_was_and_any_flipped_bit_is_noticed() {
        for for_good in [false, true] {
            let refused = Hello { refused: Some(Refusal { reason: "no".into(), for_good }), ..hello(1, 2) };
            assert_eq!(Hello::decode(&refused.encode()), Ok(refused));
        }
        let bytes = hello(1, 2).encode();
        assert_eq!(Hello::decode(&bytes), Ok(hello(1, 2)));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Hello::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_link_is_of_the_newest_format_that_both_ends_speak() {
        let of = |format| Hello { format, ..hello(1, 2) };
        let newer = Hello::decode(&of(FORMAT + 1).encode()).expect("it still speaks ours");
        assert_eq!(hello(2, 1).common_format(&newer), FORMAT);
        let older = Hello::decode(&of(FORMAT_OLDEST).encode()).expect("we still speak its");
        assert_eq!((hello(2, 1).common_format(&older), older.common_format(&newer)), (FORMAT_OLDEST, FORMAT_OLDEST));
        let too_old = of(FORMAT_OLDEST - 1).encode();
        assert!(matches!(Hello::decode(&too_old), Err(HandshakeError::Format { newest: 1, .. })));
    }

    #[test]
    fn a_version_comes_along_and_is_not_needed() {
        let talks = hello(1, 2);
        let bytes = talks.encode_with_version("0.1.0");
        assert_eq!((Hello::decode(&bytes), Hello::version(&bytes).as_deref()), (Ok(talks.clone()), Some("0.1.0")));
        let refuses = Hello { refused: Some(Refusal { reason: "no".into(), for_good: true }), ..hello(1, 2) };
        assert_eq!(Hello::decode(&refuses.encode_with_version("0.1.0")), Ok(refuses.clone()));
        for without in [refuses.encode_with_version("0.1.0"), talks.encode(), talks.encode_with_version("\u{1b}[2J")] {
            assert_eq!(Hello::version(&without), None);
        }
        assert_eq!(Hello::version(b"DREYPEER"), None);
    }

    #[test]
    fn strangers_and_other_disks_are_refused() {
        let member = Standing::Member(None);
        let own = hello(2, 1);
        let mut known = Acquaintances::default();
        assert_eq!(known.judge(&own, member, &hello(1, 2)), Ok(true));
        assert_eq!(known.judge(&own, member, &hello(1, 2)), Ok(false));
        let other_disk = Hello { incarnation: Incarnation(1), ..hello(1, 2) };
        let other_cluster = Hello { cluster: ClusterId(8), ..hello(1, 2) };
        let other_epoch = Hello { epoch: 1, ..hello(1, 2) };
        let because = Refusal { reason: "because".into(), for_good: false };
        let refusal = Hello { refused: Some(because), ..hello(1, 2) };
        for bad in [other_disk.clone(), other_cluster, other_epoch, refusal, hello(2, 2), hello(1, 1)] {
            assert!(known.judge(&own, member, &bad).is_err(), "{bad:?}");
        }
        let of = |standing| Acquaintances::default().judge(&own, standing, &hello(3, 2));
        assert!(matches!(of(Standing::Stranger), Err(HandshakeError::Mismatch(_))));
        let newer = Hello { members: 6, ..hello(3, 2) };
        assert_eq!(Acquaintances::default().judge(&own, Standing::Stranger, &newer), Ok(true));
        assert!(matches!(of(Standing::Gone), Err(HandshakeError::Outcast(_))));
        assert!(matches!(of(Standing::Member(Some(Incarnation(7)))), Err(HandshakeError::Outcast(_))));
        assert_eq!(of(Standing::Member(Some(Incarnation(300)))), Ok(false));
        assert!(matches!(known.judge(&own, member, &other_disk), Err(HandshakeError::Outcast(_))));
    }
}
