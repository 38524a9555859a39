//! What recovery refuses to guess about: where it is, what it is, and what to do.

use thiserror::Error;

use crate::types::GroupId;

use super::SegmentId;

/// A log that cannot be what was written and synced. Nothing was cut.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("log segment {segment}, at byte {offset}: {what}; {}", what.remedy())]
pub struct Damage {
    /// The file.
    pub segment: SegmentId,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: DamageKind,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DamageKind {
    /// A batch that a later one attests is not there, or not whole.
    #[error("batch {0} was synced, but is damaged or lost")]
    Batch(u64),
    /// A segment's first block is damaged, though batches were written behind it.
    #[error("the segment's header is damaged")]
    Header,
    /// Segments are not there that are still needed, from this one on.
    #[error("the file is missing, and it is still needed")]
    Missing,
    /// The file is of another cluster or node.
    #[error("the file belongs to another cluster or node ({0})")]
    Foreign(String),
    /// The format's version is not known.
    #[error("the format has version {0}, which this drey does not know")]
    Version(u32),
    /// A kind of record is not known.
    #[error("a record has kind {0}, which this drey does not know")]
    RecordKind(u8),
    /// Checksums are right, but the contents make no sense.
    #[error("the contents contradict themselves ({0})")]
    Contradiction(&'static str),
    /// A group's entries do not follow each other.
    #[error("the entries of group {0} have a gap or are out of order")]
    Entries(GroupId),
}

impl DamageKind {
    /// What a person can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            DamageKind::Version(_) | DamageKind::RecordKind(_) => "start the newer drey that wrote it",
            DamageKind::Foreign(_) => "give each node a data directory of its own, and move this file out of it",
            DamageKind::Missing => {
                "put the file back, or remove this node's data directory and let it join again as a new member"
            }
            _ => "check the disk, then remove this node's data directory and let it join again as a new member",
        }
    }
}
