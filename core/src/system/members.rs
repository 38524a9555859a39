//! The members of a cluster, and the bytes of them.
//!
//! ```text
//! format u8 = 2 | changes u64 | next id u64 | count u16 | count x member | count u16 | count x incarnation u64
//! member: id u64 | flags u8 | name length u8 | name | address length u16 | address | [incarnation u64]
//!         | [count u16 | count x group u32]
//! ```
//! Numbers are little-endian. What is in brackets is there when its flag is set: an incarnation, the groups that a leaving
//! member is still in. The incarnations at the end are of those that left last, the oldest first;
//! format 1 had none.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use bytes::{BufMut, Bytes};

use crate::error::Error;
use crate::limits::{ADDRESS_BYTES_MAX, GONE_REMEMBERED_MAX, GROUPS_MAX, MEMBERS_MAX, NODE_NAME_BYTES_MAX};
use crate::machine::{Cursor, DecodeError, known_flags};
use crate::mutation::{Mutation, is_on};
use crate::placement::SYSTEM_GROUP;
use crate::types::{GroupId, Incarnation, NodeId};
use crate::wire::handshake::Standing;

const FORMAT: u8 = 2;
const FORMAT_WITHOUT_GONE: u8 = 1;
const HAS_INCARNATION: u8 = 1;
const IS_EXPECTED: u8 = 1 << 1;
const IS_LEAVING: u8 = 1 << 2;

/// A member that a cluster is founded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub address: String,
}

impl Founder {
    /// One with a name and an address made from its id, for tests and benchmarks.
    pub fn numbered(id: u64) -> Founder {
        Founder { id: NodeId(id), name: format!("n{id}"), address: format!("host{id}:9000") }
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its id, never used again.
    pub id: NodeId,
    /// Its name, unique among the members.
    pub name: String,
    /// Where the others reach it, `host:port`, unique among the members.
    pub address: String,
    /// Of its data directory, if it said so when it joined.
    pub incarnation: Option<Incarnation>,
    /// The place is kept for a node that has not come yet.
    pub expected: bool,
    /// The groups that have not let it go yet, when it leaves.
    pub leaving: Option<BTreeSet<GroupId>>,
}

/// All members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Members {
    changes: u64,
    next_id: u64,
    by_id: BTreeMap<NodeId, Member>,
    /// What asked for a place long ago may arrive after its node has had it and left: it must not get another one.
    gone: VecDeque<Incarnation>,
}

impl Members {
    /// Those that a cluster begins with.
    pub fn found(founders: &[Founder]) -> Members {
        let member = |founder: &Founder| Member {
            id: founder.id,
            name: founder.name.clone(),
            address: founder.address.clone(),
            incarnation: None,
            expected: false,
            leaving: None,
        };
        let by_id: BTreeMap<_, _> = founders.iter().map(|founder| (founder.id, member(founder))).collect();
        let next_id = by_id.last_key_value().map_or(1, |(last, _)| last.0 + 1);
        Members { changes: 0, next_id, by_id, gone: VecDeque::new() }
    }

    /// Grows with each change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// In the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    /// One of them.
    pub fn get(&self, id: NodeId) -> Option<&Member> {
        self.by_id.get(&id)
    }

    /// Whether this id was a member's that is gone.
    pub fn is_gone(&self, id: NodeId) -> bool {
        id.0 < self.next_id && !self.by_id.contains_key(&id)
    }

    /// What a node is to the cluster.
    pub fn standing(&self, id: NodeId) -> Standing {
        match self.by_id.get(&id) {
            Some(member) => Standing::Member(member.incarnation),
            None if self.is_gone(id) => Standing::Gone,
            None => Standing::Stranger,
        }
    }

    /// Whether a member is here to stay.
    pub fn stays(&self, id: NodeId) -> bool {
        self.by_id.get(&id).is_some_and(|member| member.leaving.is_none())
    }

    /// Whether a group is to let a member go now. The system group is the last: from it the member hears that it leaves.
    pub(crate) fn is_to_go(&self, id: NodeId, group: GroupId) -> bool {
        let Some(member) = self.by_id.get(&id) else { return true };
        let only_here = |groups: &BTreeSet<GroupId>| groups.iter().all(|&other| other == SYSTEM_GROUP);
        member
            .leaving
            .as_ref()
            .is_some_and(|groups| group != SYSTEM_GROUP || only_here(groups) || is_on(Mutation::LeavingHearsLast))
    }

    /// Adds a member, or finds the one that this incarnation became before.
    pub(crate) fn join(
        &mut self,
        name: &str,
        address: &str,
        incarnation: Option<Incarnation>,
    ) -> Result<NodeId, Error> {
        check_name(name)?;
        check_address(address)?;
        let same_disk = |member: &&mut Member| incarnation.is_some() && member.incarnation == incarnation;
        if let Some(member) = self.by_id.values_mut().find(same_disk) {
            return match member.leaving {
                None if member.name != name || member.address != address => Err(Error::Refused(format!(
                    "this data directory has the place of {} (id {}) at {} already: start it as that, or `drey remove {}`",
                    member.name, member.id, member.address, member.name
                ))),
                None => Ok(member.id),
                Some(_) => Err(Error::Refused(format!(
                    "{} is leaving: it may join anew with an empty data directory",
                    member.name
                ))),
            };
        }
        if incarnation.is_some_and(|incarnation| self.gone.contains(&incarnation)) && !is_on(Mutation::GoneJoinsAgain) {
            return Err(Error::Refused(
                "a member with this data directory was removed: delete the directory with all that is in it, and it may join anew"
                    .into(),
            ));
        }
        let next = NodeId(self.next_id);
        if let Some(member) = self.by_id.values_mut().find(|member| member.name == name || member.address == address) {
            let is_same = member.name == name && member.address == address && member.leaving.is_none();
            if !is_same || !member.expected {
                return Err(Error::Refused(format!(
                    "{} (id {}) at {} is a member already: remove it first, `drey remove {}`",
                    member.name, member.id, member.address, member.name
                )));
            }
            if incarnation.is_some() {
                (member.incarnation, member.expected) = (incarnation, false);
                self.changes += 1;
            }
            return Ok(member.id);
        }
        if self.by_id.len() >= MEMBERS_MAX {
            return Err(Error::QuotaExceeded(format!("the cluster has {MEMBERS_MAX} members, the most")));
        }
        let (name, address) = (name.to_owned(), address.to_owned());
        let member = Member { id: next, name, address, expected: incarnation.is_none(), incarnation, leaving: None };
        self.by_id.insert(next, member);
        self.next_id += 1;
        self.changes += 1;
        Ok(next)
    }

    /// A member is to leave these groups. One that is gone already stays gone.
    pub(crate) fn leave(&mut self, id: NodeId, groups: impl Iterator<Item = GroupId>) -> Result<(), Error> {
        let stay = self.by_id.values().filter(|member| member.id != id && member.leaving.is_none()).count();
        match self.by_id.get_mut(&id) {
            None if id.0 < self.next_id => Ok(()),
            None => Err(Error::NotFound(format!("there is no member with the id {id}"))),
            Some(member) if member.leaving.is_some() => Ok(()),
            Some(member) if stay == 0 => {
                Err(Error::Refused(format!("{} is the last member: stop it instead of removing it", member.name)))
            }
            Some(member) => {
                member.leaving = Some(groups.collect());
                self.changes += 1;
                Ok(())
            }
        }
    }

    /// A group has let a leaving member go. When all have, it is forgotten.
    pub(crate) fn left(&mut self, id: NodeId, group: GroupId) {
        let Some(groups) = self.by_id.get_mut(&id).and_then(|member| member.leaving.as_mut()) else { return };
        if groups.remove(&group) {
            self.changes += 1;
        }
        if groups.is_empty() {
            let incarnation = self.by_id.remove(&id).and_then(|member| member.incarnation);
            self.gone.extend(incarnation);
            self.gone.drain(..self.gone.len().saturating_sub(GONE_REMEMBERED_MAX));
        }
    }

    /// The bytes that a store and a message keep.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_u8(FORMAT);
        out.put_u64_le(self.changes);
        out.put_u64_le(self.next_id);
        out.put_u16_le(self.by_id.len() as u16);
        for member in self.by_id.values() {
            member.encode(&mut out);
        }
        out.put_u16_le(self.gone.len() as u16);
        self.gone.iter().for_each(|incarnation| out.put_u64_le(incarnation.0));
        out.into()
    }

    /// Reads and checks what [`Self::encode`] wrote.
    pub(crate) fn decode(bytes: Bytes) -> Result<Members, DecodeError> {
        let mut input = Cursor::new(bytes);
        let members = Members::take(&mut input)?;
        input.finish()?;
        Ok(members)
    }

    pub(crate) fn take(input: &mut Cursor) -> Result<Members, DecodeError> {
        let format = input.u8()?;
        if format != FORMAT && format != FORMAT_WITHOUT_GONE {
            return Err(DecodeError("unknown format of the members"));
        }
        let (changes, next_id) = (input.u64()?, input.u64()?);
        let mut members = Members { changes, next_id, by_id: BTreeMap::new(), gone: VecDeque::new() };
        let count = input.u16()?;
        if usize::from(count) > MEMBERS_MAX {
            return Err(DecodeError("more members than there may be"));
        }
        for _ in 0..count {
            let member = Member::take(input)?;
            let behind = members.by_id.last_key_value().map_or(NodeId(0), |(last, _)| *last);
            if member.id <= behind || member.id.0 >= members.next_id {
                return Err(DecodeError("members out of order"));
            }
            members.by_id.insert(member.id, member);
        }
        let gone = if format == FORMAT { usize::from(input.u16()?) } else { 0 };
        if gone > GONE_REMEMBERED_MAX {
            return Err(DecodeError("more members that left than are remembered"));
        }
        for _ in 0..gone {
            members.gone.push_back(Incarnation(input.u64()?));
        }
        Ok(members)
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, member) in self.by_id.values().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            let state = if member.leaving.is_some() { " leaving" } else { "" };
            write!(f, "{comma}{} {}{state}", member.id, member.name)?;
        }
        Ok(())
    }
}

impl Member {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.id.0);
        let flag = |set, flag| if set { flag } else { 0 };
        out.put_u8(
            flag(self.incarnation.is_some(), HAS_INCARNATION)
                | flag(self.expected, IS_EXPECTED)
                | flag(self.leaving.is_some(), IS_LEAVING),
        );
        out.put_u8(self.name.len() as u8);
        out.put_slice(self.name.as_bytes());
        out.put_u16_le(self.address.len() as u16);
        out.put_slice(self.address.as_bytes());
        if let Some(incarnation) = self.incarnation {
            out.put_u64_le(incarnation.0);
        }
        if let Some(groups) = &self.leaving {
            out.put_u16_le(groups.len() as u16);
            groups.iter().for_each(|group| out.put_u32_le(group.0));
        }
    }

    fn take(input: &mut Cursor) -> Result<Member, DecodeError> {
        let id = NodeId(input.u64()?);
        let flags = known_flags(input.u8()?, HAS_INCARNATION | IS_EXPECTED | IS_LEAVING)?;
        let name_len = usize::from(input.u8()?);
        let name = text(input.take(name_len)?)?;
        let address_len = usize::from(input.u16()?);
        let address = text(input.take(address_len)?)?;
        let incarnation = input.optional_u64(flags & HAS_INCARNATION != 0)?.map(Incarnation);
        let leaving = if flags & IS_LEAVING == 0 { None } else { Some(take_groups(input)?) };
        Ok(Member { id, name, address, incarnation, expected: flags & IS_EXPECTED != 0, leaving })
    }
}

fn take_groups(input: &mut Cursor) -> Result<BTreeSet<GroupId>, DecodeError> {
    let count = usize::from(input.u16()?);
    if count > GROUPS_MAX as usize + 1 {
        return Err(DecodeError("more groups than there may be"));
    }
    (0..count).map(|_| input.u32().map(GroupId)).collect()
}

pub(super) fn text(bytes: Bytes) -> Result<String, DecodeError> {
    String::from_utf8(bytes.into()).map_err(|_| DecodeError("a text that is not UTF-8"))
}

/// Whether a node may have this name.
pub fn check_name(name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.is_empty() && name.len() <= NODE_NAME_BYTES_MAX && name.chars().all(plain) {
        return Ok(());
    }
    let start: String = name.chars().take(NODE_NAME_BYTES_MAX).collect();
    Err(Error::invalid(format!(
        "{start:?} cannot be a node's name: write 1 to {NODE_NAME_BYTES_MAX} of a-z A-Z 0-9 . _ -"
    )))
}

pub(super) fn check_address(address: &str) -> Result<(), Error> {
    let (host, port) = address.rsplit_once(':').unwrap_or_default();
    let plain = address.len() <= ADDRESS_BYTES_MAX && address.chars().all(|c| c.is_ascii_graphic());
    if address.parse().is_ok_and(|address: SocketAddr| address.ip().is_unspecified()) {
        return Err(Error::invalid(format!("nobody can reach a node at {address}: write where others can")));
    }
    if plain && !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0) {
        return Ok(());
    }
    let start: String = address.chars().take(ADDRESS_BYTES_MAX).collect();
    Err(Error::invalid(format!("{start:?} is no address: write HOST:PORT")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn three() -> Members {
        let founder =
            |id: u64| Founder { id: NodeId(id), name: format!("n{id}"), address: format!("127.0.0.1:900{id}") };
        Members::found(&[1, 2, 3].map(founder))
    }

    #[test]
    fn joining_is_repeatable_with_one_disk_and_no_id_is_used_twice() {
        let mut members = three();
        let four = members.join("n4", "127.0.0.1:9004", Some(Incarnation(44))).unwrap();
        let changes = members.changes();
        assert_eq!(members.join("n4", "127.0.0.1:9004", Some(Incarnation(44))).unwrap(), four);
        assert_eq!(members.changes(), changes);
        assert!(members.join("n4", "127.0.0.1:9004", Some(Incarnation(45))).is_err(), "another disk");
        assert!(members.join("n5", "127.0.0.1:9005", Some(Incarnation(44))).is_err(), "another name for it");
        assert!(members.join("n1", "127.0.0.1:9001", Some(Incarnation(46))).is_err(), "a founder's place");
        assert!(members.join("n9", "127.0.0.1:9004", Some(Incarnation(47))).is_err(), "another's address");
        members.leave(four, [GroupId(0), GroupId(1)].into_iter()).unwrap();
        assert!(members.join("n4", "127.0.0.1:9004", Some(Incarnation(44))).is_err(), "it is leaving");
        members.left(four, GroupId(1));
        assert!(members.get(four).is_some() && !members.stays(four));
        members.left(four, GroupId(0));
        assert!(members.is_gone(four) && members.leave(four, [GroupId(0)].into_iter()).is_ok());
        assert!(members.join("n4", "127.0.0.1:9004", Some(Incarnation(44))).is_err(), "it has left");
        assert_eq!(members.join("n4", "127.0.0.1:9004", Some(Incarnation(48))).unwrap(), NodeId(5));
    }

    #[test]
    fn those_that_left_last_are_remembered() {
        let mut members = three();
        let all = 1..=GONE_REMEMBERED_MAX as u64 + 1;
        for disk in all.clone() {
            let id = members.join("n4", "host:9004", Some(Incarnation(disk))).unwrap();
            members.leave(id, [GroupId(0)].into_iter()).unwrap();
            members.left(id, GroupId(0));
        }
        let again = |disk| members.clone().join("n4", "host:9004", Some(Incarnation(disk)));
        assert_eq!(all.filter(|&disk| again(disk).is_ok()).collect::<Vec<_>>(), [1]);
        assert_eq!(Members::decode(members.encode()).unwrap(), members);
    }

    #[test]
    fn a_kept_place_is_taken_once() {
        let mut members = three();
        let four = members.join("n4", "host:9004", None).unwrap();
        assert_eq!(members.join("n4", "host:9004", None).unwrap(), four);
        assert!(members.join("n4", "elsewhere:9004", Some(Incarnation(1))).is_err());
        assert_eq!(members.join("n4", "host:9004", Some(Incarnation(1))).unwrap(), four);
        assert!(members.join("n4", "host:9004", Some(Incarnation(2))).is_err());
    }

    #[test]
    fn the_last_member_stays_and_odd_names_are_refused() {
        let mut members = three();
        for id in [1, 2] {
            members.leave(NodeId(id), [GroupId(0)].into_iter()).unwrap();
        }
        assert!(members.leave(NodeId(3), [GroupId(0)].into_iter()).is_err());
        assert!(members.leave(NodeId(7), [GroupId(0)].into_iter()).is_err());
        for (name, address) in [
            ("", "h:1"),
            ("a b", "h:1"),
            ("a", ""),
            ("a", "h"),
            ("a", "h:0"),
            ("a", ":1"),
            ("a", "h:x"),
            ("a", "0.0.0.0:1"),
            ("a", "[::]:1"),
        ] {
            assert!(members.join(name, address, None).is_err(), "{name:?} {address:?}");
        }
    }

    #[test]
    fn the_bytes_come_back_and_damage_is_noticed() {
        let mut members = three();
        members.join("n4", "127.0.0.1:9004", Some(Incarnation(44))).unwrap();
        members.join("n5", "127.0.0.1:9005", None).unwrap();
        members.leave(NodeId(2), [GroupId(0), GroupId(7)].into_iter()).unwrap();
        members.join("n6", "127.0.0.1:9006", Some(Incarnation(66))).unwrap();
        members.leave(NodeId(6), [GroupId(0)].into_iter()).unwrap();
        members.left(NodeId(6), GroupId(0));
        let bytes = members.encode();
        assert_eq!(Members::decode(bytes.clone()).unwrap(), members);
        for len in 0..bytes.len() {
            assert!(Members::decode(bytes.slice(..len)).is_err());
        }
        let mut before_gone = bytes[..bytes.len() - 2 - 8].to_vec();
        before_gone[0] = FORMAT_WITHOUT_GONE;
        members.gone.clear();
        assert_eq!(Members::decode(before_gone.into()).unwrap(), members);
    }
}
