//! The bytes of a write to the system group, as they stand in its command.
//!
//! ```text
//! what u8 | 0: join: flags u8 | name length u8 | name | address length u16 | address | [incarnation u64]
//!           1: leave: member u64
//!           2: left: member u64 | group u32
//! ```
//! Numbers are little-endian. The incarnation is there when flag 1 is set.

use bytes::BufMut;

use crate::error::Error;
use crate::machine::{Cursor, DecodeError, known_flags};
use crate::system::SystemWrite;
use crate::system::members::{check_address, check_name, text};
use crate::types::{GroupId, Incarnation, NodeId};

const JOIN: u8 = 0;
const LEAVE: u8 = 1;
const LEFT: u8 = 2;
const HAS_INCARNATION: u8 = 1;

impl SystemWrite {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            SystemWrite::Join { name, address, incarnation } => {
                out.put_slice(&[JOIN, u8::from(incarnation.is_some()), name.len() as u8]);
                out.put_slice(name.as_bytes());
                out.put_u16_le(address.len() as u16);
                out.put_slice(address.as_bytes());
                if let Some(incarnation) = incarnation {
                    out.put_u64_le(incarnation.0);
                }
            }
            SystemWrite::Leave { member } => {
                out.put_u8(LEAVE);
                out.put_u64_le(member.0);
            }
            SystemWrite::Left { member, group } => {
                out.put_u8(LEFT);
                out.put_u64_le(member.0);
                out.put_u32_le(group.0);
            }
        }
    }

    pub(crate) fn encoded_len(&self) -> usize {
        match self {
            SystemWrite::Join { name, address, incarnation } => {
                3 + name.len() + 2 + address.len() + if incarnation.is_some() { 8 } else { 0 }
            }
            SystemWrite::Leave { .. } => 1 + 8,
            SystemWrite::Left { .. } => 1 + 8 + 4,
        }
    }

    pub(crate) fn take(input: &mut Cursor) -> Result<SystemWrite, DecodeError> {
        match input.u8()? {
            JOIN => {
                let flags = known_flags(input.u8()?, HAS_INCARNATION)?;
                let name_len = usize::from(input.u8()?);
                let name = text(input.take(name_len)?)?;
                let address_len = usize::from(input.u16()?);
                let address = text(input.take(address_len)?)?;
                let incarnation = input.optional_u64(flags & HAS_INCARNATION != 0)?.map(Incarnation);
                Ok(SystemWrite::Join { name, address, incarnation })
            }
            LEAVE => Ok(SystemWrite::Leave { member: NodeId(input.u64()?) }),
            LEFT => Ok(SystemWrite::Left { member: NodeId(input.u64()?), group: GroupId(input.u32()?) }),
            _ => Err(DecodeError("an unknown write to the system group")),
        }
    }

    /// Refuses what no cluster can take.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        match self {
            SystemWrite::Join { name, address, .. } => check_name(name).and_then(|()| check_address(address)),
            SystemWrite::Leave { .. } | SystemWrite::Left { .. } => Ok(()),
        }
    }
}
