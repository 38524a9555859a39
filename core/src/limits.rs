//! Every bound that a user can meet, by name.

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4096;
/// A bound of a range may be one byte longer than a key, so that `[min, max]` is `[min, max + "\0")`.
pub const KEY_BOUND_BYTES_MAX: usize = KEY_BYTES_MAX + 1;
/// The longest bucket name, in bytes.
pub const BUCKET_NAME_BYTES_MAX: usize = 128;
/// The most buckets of one group.
pub const BUCKETS_PER_GROUP_MAX: usize = 4096;
/// The largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// The longest time to live, in milliseconds: 100 years of 365 days.
pub const TTL_MS_MAX: u64 = 100 * 365 * 24 * 3600 * 1000;
/// The most entries of the expiry index, due or out of date, that applying one log entry removes before its commands.
pub const EXPIRED_PER_ENTRY: usize = 64;
/// The same for a log entry that has no commands: a bare stamp of the clock.
pub const EXPIRED_PER_STAMP: usize = 512;
/// A group's clock that moves forward by more than this at once, in milliseconds, is worth a line in the log.
pub const CLOCK_JUMP_MS_MAX: u64 = 3_600_000;
/// What a leader says of its clock may be under way for so long, in milliseconds. Where that took longer, keys may expire early by the
/// rest, should who was told in time lead next but one, with all restarted who followed. Also: what one wrong wall clock can add
/// to a time to live then.
pub const TOLD_LATE_MS_MAX: u64 = 5_000;
/// The most operations of one batch.
pub const BATCH_OPS_MAX: usize = 4096;
/// The most keys and values of one batch, in bytes; also the largest encoded command.
pub const BATCH_BYTES_MAX: usize = 2 << 20;
/// The most keys of one `GetMany`.
pub const GET_MANY_KEYS_MAX: usize = 4096;
/// The most bytes of entries in the answer to one batch or `GetMany`: it fits a gRPC message of the usual size.
pub const REPLY_BYTES_MAX: usize = 3 << 20;
/// The most bytes of keys and values in one page of a scan (one entry may exceed it).
pub const SCAN_PAGE_BYTES_MAX: usize = 256 << 10;
/// The most entries in one page of a scan.
pub const SCAN_PAGE_ENTRIES_MAX: usize = 1024;
/// The most bytes that one page of a scan reads: what bounds a page whose values are left out.
pub const SCAN_PAGE_READ_BYTES_MAX: usize = 4 << 20;
/// The most keys that describing a bucket counts: beyond, `keys_estimate` is a floor.
pub const KEYS_COUNTED_MAX: usize = 10_000;
/// The most bytes that describing a bucket reads: beyond, the estimates are floors.
pub const BYTES_COUNTED_MAX: usize = 16 << 20;
/// The longest text of an error that travels between nodes, in bytes; a longer one is cut.
pub const ERROR_TEXT_BYTES_MAX: usize = 8192;
/// The most open views (scans in progress) of one shard.
pub const VIEWS_MAX: usize = 64;
/// A view that was not read for so long is closed.
pub const VIEW_IDLE_MS_MAX: u64 = 30_000;
/// The most unanswered requests of one shard.
pub const REQUESTS_PENDING_MAX: usize = 16_384;
/// The most sessions of a group: beyond, those that were used longest ago expire.
pub const SESSIONS_PER_GROUP_MAX: usize = 4096;
/// The most writes of a session whose answers its client has not acknowledged.
pub const SESSION_ANSWERS_MAX: u64 = 1024;
/// The most bytes of answers that a group keeps for its sessions: beyond, those that were used longest ago expire.
pub const ANSWERS_BYTES_PER_GROUP_MAX: usize = 32 << 20;
/// The most bytes of commands in one Raft entry: a turn with more makes several.
pub const ENTRY_BYTES_MAX: usize = BATCH_BYTES_MAX + (64 << 10);
/// Bytes of a group's entries that wait for the quorum, beyond which its leader refuses proposals.
pub const UNCOMMITTED_BYTES_MAX: usize = 64 << 20;
/// Committed but unapplied bytes of a group beyond which its leader refuses proposals, and its followers take no entries.
pub const UNAPPLIED_BYTES_MAX: usize = 32 << 20;
/// The longest name of a node, in bytes.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// The longest address of a node, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// The most members of a cluster.
pub const MEMBERS_MAX: usize = 64;
/// Of so many members that left last the cluster knows the data directories, which get no place again.
pub const GONE_REMEMBERED_MAX: usize = 64;
/// The most groups of a cluster, without the system group.
pub const GROUPS_MAX: u32 = 1024;
/// The largest frame between peers, in bytes.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// The largest part of a state that a leader has compared at once, in bytes.
pub const SCRUB_PART_BYTES_MAX: u64 = 16 << 20;
