//! How much room is left on the disks, and what is still written while there is little.
//!
//! Each node keeps some of its disks free, for what it must write whatever happens: its log's bookkeeping, what its store has in memory,
//! the merging of files that makes room again. A node with less than that hands over what it leads. Where too few members have room,
//! leaders refuse what would need more of it; what removes something still goes through. A node that has next to nothing left takes no
//! entries at all: it is fetched up once there is room, as after any absence.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::Error;
use crate::machine::FullBuckets;
use crate::mutation::{Mutation, is_on};
use crate::request::{BatchOp, Command, LimitStatus, Write};
use crate::types::NodeId;

/// How often a node that is short of room says so to the leaders that it follows.
const TELL_EVERY_MS: u64 = 1_000;
/// So long that is believed: it may have been lost that there is room again.
const BELIEVED_MS: u64 = 5_000;

/// What a node's file systems have left: the one that has least, if log and store are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Room {
    /// In bytes, for a process without privileges.
    pub free_bytes: u64,
    /// What is to be kept free, in bytes; 0: there is no bound.
    pub reserve_bytes: u64,
}

/// What that means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoomLevel {
    /// There is room.
    #[default]
    Enough,
    /// The reserve is being used.
    Low,
    /// Most of the reserve is gone.
    Exhausted,
}

impl RoomLevel {
    /// As a number, 0 to 2.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The one of a number.
    pub fn of_number(number: u8) -> Option<RoomLevel> {
        [RoomLevel::Enough, RoomLevel::Low, RoomLevel::Exhausted].into_iter().find(|level| level.number() == number)
    }
}

impl fmt::Display for RoomLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RoomLevel::Enough => "enough",
            RoomLevel::Low => "low",
            RoomLevel::Exhausted => "exhausted",
        })
    }
}

impl Room {
    /// The level, if it was `before`: it takes a little more room to come back than to go, so that nothing flutters.
    fn level(self, before: RoomLevel) -> RoomLevel {
        let Room { free_bytes, reserve_bytes } = self;
        let (quarter, is_back) = (reserve_bytes / 4, |level| before >= level);
        if free_bytes < quarter || (is_back(RoomLevel::Exhausted) && free_bytes < 2 * quarter) {
            RoomLevel::Exhausted
        } else if free_bytes < reserve_bytes || (is_back(RoomLevel::Low) && free_bytes < reserve_bytes + quarter) {
            RoomLevel::Low
        } else {
            RoomLevel::Enough
        }
    }
}

/// What a shard knows of its own node's room, and of that of those whose leader it is.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    own: Room,
    level: RoomLevel,
    /// What the leaders were told last, and when.
    told: (RoomLevel, u64),
    /// Peers that are short of room, and until when that is believed.
    peers: BTreeMap<NodeId, (RoomLevel, u64)>,
    /// Writes that were refused.
    pub refused: u64,
}

impl Rooms {
    /// This node's room was looked at. What it means now, if that is something else than before.
    pub fn look(&mut self, room: Room) -> Option<RoomLevel> {
        let mut level = room.level(self.level);
        if is_on(Mutation::RoomNotSeen) {
            level = level.max(self.level);
        }
        self.own = room;
        (std::mem::replace(&mut self.level, level) != level).then_some(level)
    }

    /// This node's.
    pub fn own(&self) -> (Room, RoomLevel) {
        (self.own, self.level)
    }

    /// A peer said how it is.
    pub fn told(&mut self, peer: NodeId, level: RoomLevel, now_ms: u64) {
        match level {
            RoomLevel::Enough => _ = self.peers.remove(&peer),
            level => _ = self.peers.insert(peer, (level, now_ms + BELIEVED_MS)),
        }
    }

    /// Time passes. What the leaders should be told now, if anything.
    pub fn tick(&mut self, now_ms: u64) -> Option<RoomLevel> {
        self.peers.retain(|_, (_, until_ms)| now_ms < *until_ms);
        let (level, at_ms) = self.told;
        let is_due = self.level != RoomLevel::Enough && now_ms >= at_ms + TELL_EVERY_MS;
        if self.level == level && !is_due {
            return None;
        }
        self.told = (self.level, now_ms);
        Some(self.level)
    }

    /// A peer's, as far as it is known.
    pub fn of_peer(&self, peer: NodeId) -> RoomLevel {
        self.peers.get(&peer).map_or(RoomLevel::Enough, |(level, _)| *level)
    }

    /// Whether this node has too little room to take entries.
    pub fn is_exhausted(&self) -> bool {
        self.level == RoomLevel::Exhausted
    }

    /// Whether this node has less than it should.
    pub fn is_short(&self) -> bool {
        self.level != RoomLevel::Enough
    }

    /// How much of the reserve is used, and how many writes were refused.
    pub fn limit(&self) -> LimitStatus {
        let Room { free_bytes, reserve_bytes } = self.own;
        let now = reserve_bytes.saturating_sub(free_bytes);
        LimitStatus { name: "disk_reserve", now, max: reserve_bytes, refused: self.refused }
    }

    /// What becomes of a write of a group that `own` leads, if it needs room that it or others do not have.
    pub fn judge(&self, command: &Command, own: NodeId, voters: impl FnOnce() -> Vec<NodeId>) -> Verdict {
        if self.level == RoomLevel::Enough && self.peers.is_empty() {
            return Verdict::Goes;
        }
        let worst = match need(command) {
            Need::Nothing => return Verdict::Goes,
            Need::Little => RoomLevel::Low,
            Need::More => RoomLevel::Enough,
        };
        let voters = voters();
        let is_short = |voter: NodeId| if voter == own { self.level > worst } else { self.of_peer(voter) > worst };
        let short: Vec<NodeId> = voters.iter().copied().filter(|voter| is_short(*voter)).collect();
        let have_majority = 2 * (voters.len() - short.len()) > voters.len();
        if have_majority {
            return if is_short(own) { Verdict::Elsewhere } else { Verdict::Goes };
        }
        let short: Vec<String> = short.iter().map(NodeId::to_string).collect();
        let names = format!("{} {}", if short.len() == 1 { "node" } else { "nodes" }, short.join(", "));
        let have = match (short.len(), self.own) {
            (1, own) => {
                format!("{} of disk left of the {} that it keeps", Bytes(own.free_bytes), Bytes(own.reserve_bytes))
            }
            _ => "less disk left than they keep".to_owned(),
        };
        let verb = if short.len() == 1 { "has" } else { "have" };
        let kept = match worst {
            RoomLevel::Enough => "what needs room is refused until there is more; reads and deletes go on",
            _ => "and next to nothing is left: all writes are refused until there is more; reads go on",
        };
        Verdict::Refused(Error::QuotaExceeded(format!("{names} {verb} {have} free (--min-free-disk): {kept}")))
    }
}

/// What becomes of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is proposed.
    Goes,
    /// This leader has no room for it, others have: it waits for one of them to lead.
    Elsewhere,
    /// No majority has room for it.
    Refused(Error),
}

/// A number of bytes, for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            small @ 0..1_048_576 => write!(f, "{} KiB", small >> 10),
            large => write!(f, "{} MiB", large >> 20),
        }
    }
}

/// What a write asks of the disks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// So little, and so seldom, that it always goes through: without it nobody could be removed, or put in another's place.
    Nothing,
    /// It removes something, and needs room for saying so.
    Little,
    /// It adds something.
    More,
}

fn need(command: &Command) -> Need {
    match &command.write {
        Write::System(_) => Need::Nothing,
        Write::CreateBucket { .. } => Need::More,
        _ if adds_data(command) => Need::More,
        _ => Need::Little,
    }
}

/// Whether a write could make a bucket larger.
fn adds_data(command: &Command) -> bool {
    let adds = |ops: &[BatchOp]| ops.iter().any(|op| !matches!(op, BatchOp::Delete { .. } | BatchOp::Get { .. }));
    match &command.write {
        Write::Put { .. } => true,
        Write::Txn { success, failure, .. } => adds(success) || adds(failure),
        Write::Batch { ops } => adds(ops),
        _ => false,
    }
}

/// Refuses what could make a bucket larger that has reached its bound.
pub(crate) fn check_bound(command: &Command, full: &FullBuckets) -> Result<(), Error> {
    match full.get(&command.bucket) {
        Some(max) if adds_data(command) && !is_on(Mutation::BoundsIgnored) => Err(Error::QuotaExceeded(format!(
            "bucket {:?} has reached the {} bytes that it may hold (max_bytes): what adds to it is refused until something is deleted or \
             expires; reads and deletes go on",
            command.bucket.as_str(),
            max
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{BucketName, Key};

    const MIB: u64 = 1 << 20;
    const OWN: NodeId = NodeId(1);

    fn room(free: u64) -> Room {
        Room { free_bytes: free * MIB, reserve_bytes: 100 * MIB }
    }

    fn write(write: Write) -> Command {
        Command { bucket: BucketName::DEFAULT, id: None, write }
    }

    fn key() -> Key {
        Key::new("k").expect("a key")
    }

    fn put() -> Command {
        let (key, value) = (key(), "v".into());
        write(Write::Put { key, value, ttl_ms: None, condition: None, return_previous: false })
    }

    fn delete() -> Command {
        write(Write::Delete { key: key(), condition: None, return_previous: false })
    }

    fn member() -> Command {
        Command::system(crate::system::SystemWrite::Leave { member: NodeId(3) })
    }

    #[test]
    fn it_takes_more_to_come_back_than_to_go() {
        let mut rooms = Rooms::default();
        let seen: Vec<_> =
            [500, 101, 99, 110, 124, 125, 99, 24, 49, 50, 100, 24, 200].map(|free| rooms.look(room(free))).into();
        use RoomLevel::{Enough, Exhausted, Low};
        let news = |level| Some(level);
        let expected = [
            None,
            None,
            news(Low),
            None,
            None,
            news(Enough),
            news(Low),
            news(Exhausted),
            None,
            news(Low),
            None,
            news(Exhausted),
            news(Enough),
        ];
        assert_eq!(seen, expected);
        assert_eq!(rooms.look(Room { free_bytes: 0, reserve_bytes: 0 }), None, "no bound");
    }

    fn judged(rooms: &Rooms, voters: &[u64]) -> [&'static str; 3] {
        [put(), delete(), member()].map(|write| {
            match rooms.judge(&write, OWN, || voters.iter().copied().map(NodeId).collect()) {
                Verdict::Goes => "goes",
                Verdict::Elsewhere => "elsewhere",
                Verdict::Refused(_) => "refused",
            }
        })
    }

    #[test]
    fn a_lone_node_without_room_refuses_what_needs_it() {
        let mut rooms = Rooms::default();
        assert_eq!(judged(&rooms, &[1]), ["goes"; 3]);
        rooms.look(room(60));
        assert_eq!(judged(&rooms, &[1]), ["refused", "goes", "goes"]);
        let Verdict::Refused(error) = rooms.judge(&put(), OWN, || vec![OWN]) else { panic!("it has no room") };
        let expected = "quota exceeded: node 1 has 60 MiB of disk left of the 100 MiB that it keeps free (--min-free-disk): what \
                        needs room is refused until there is more; reads and deletes go on";
        assert_eq!(error.to_string(), expected);
        rooms.look(room(10));
        assert_eq!(judged(&rooms, &[1]), ["refused", "refused", "goes"]);
    }

    #[test]
    fn a_majority_must_have_room_and_its_leader_too() {
        let mut rooms = Rooms::default();
        let three = |rooms: &Rooms| judged(rooms, &[1, 2, 3]);
        rooms.told(NodeId(2), RoomLevel::Exhausted, 0);
        assert_eq!(three(&rooms), ["goes"; 3]);
        rooms.told(NodeId(3), RoomLevel::Low, 1_000);
        assert_eq!(three(&rooms), ["refused", "goes", "goes"]);
        rooms.told(NodeId(3), RoomLevel::Exhausted, 2_000);
        assert_eq!(three(&rooms), ["refused", "refused", "goes"]);
        rooms.told(NodeId(2), RoomLevel::Enough, 2_000);
        assert_eq!(three(&rooms), ["goes"; 3]);
        rooms.told(NodeId(2), RoomLevel::Low, 2_000);
        rooms.tick(2_000 + BELIEVED_MS);
        assert_eq!(three(&rooms), ["goes"; 3], "nothing was heard since");
        rooms.look(room(60));
        assert_eq!(three(&rooms), ["elsewhere", "goes", "goes"]);
        rooms.look(room(10));
        assert_eq!(three(&rooms), ["elsewhere", "elsewhere", "goes"]);
        rooms.told(NodeId(3), RoomLevel::Low, 2_000);
        assert_eq!(three(&rooms), ["refused", "elsewhere", "goes"]);
    }

    #[test]
    fn leaders_are_told_of_a_change_and_reminded_of_what_is_bad() {
        let mut rooms = Rooms::default();
        assert_eq!(rooms.tick(5_000), None);
        rooms.look(room(60));
        assert_eq!(rooms.tick(5_100), Some(RoomLevel::Low));
        assert_eq!(rooms.tick(5_200), None);
        assert_eq!(rooms.tick(6_100), Some(RoomLevel::Low));
        rooms.look(room(600));
        assert_eq!(rooms.tick(6_200), Some(RoomLevel::Enough));
        assert_eq!(rooms.tick(60_000), None);
    }

    #[test]
    fn levels_have_numbers() {
        let levels = [RoomLevel::Enough, RoomLevel::Low, RoomLevel::Exhausted];
        assert_eq!(levels.map(|level| RoomLevel::of_number(level.number())), levels.map(Some));
        assert_eq!(RoomLevel::of_number(3), None);
    }
}
