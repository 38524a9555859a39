//! The bytes of a record: kind, length, and fixed little-endian fields. A reader that does not know a kind can tell
//! that it is new, not damaged.

use bytes::{BufMut, Bytes};

use crate::storage::SnapshotMeta;
use crate::types::{GroupId, LogIndex, NodeId, Term};

use super::{HardState, LogEntry, Record, Restated};

const HARD_STATE: u8 = 1;
const APPEND: u8 = 2;
const CARRIED: u8 = 3;
const TRUNCATED: u8 = 4;
const SNAPSHOT_INTENT: u8 = 5;
const SNAPSHOT_DONE: u8 = 6;
const RESTATED: u8 = 7;

/// Kind and length of the body.
pub(super) const RECORD_HEADER_BYTES: usize = 1 + 4;
const GROUP_BYTES: usize = 4;
const HARD_STATE_BYTES: usize = 3 * 8;
/// Index of the first entry, and how many.
const ENTRIES_HEADER_BYTES: usize = 8 + 4;
/// Term, kind, length of context and of data.
const ENTRY_HEADER_BYTES: usize = 8 + 1 + 4 + 4;
/// Index, term, length of the configuration.
const SNAPSHOT_HEADER_BYTES: usize = 8 + 8 + 4;
/// What a record with one entry takes beside data and context.
pub(super) const ENTRY_RECORD_OVERHEAD_BYTES: usize = entries_bytes_of(ENTRY_HEADER_BYTES);

/// Why bytes under a good checksum are not records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadRecord {
    /// A kind of record that this version does not know.
    UnknownKind(u8),
    /// Lengths, counts or numbers that no writer writes.
    Malformed,
}

const fn entries_bytes_of(entries: usize) -> usize {
    RECORD_HEADER_BYTES + GROUP_BYTES + ENTRIES_HEADER_BYTES + entries
}

fn snapshot_bytes(meta: &SnapshotMeta) -> usize {
    SNAPSHOT_HEADER_BYTES + meta.configuration.len()
}

/// What an entry takes within its record.
fn entry_bytes(entry: &LogEntry) -> usize {
    ENTRY_HEADER_BYTES + entry.context.len() + entry.data.len()
}

impl Record {
    /// Whose.
    pub fn group(&self) -> GroupId {
        match self {
            Record::HardState(group, _)
            | Record::Append(group, _)
            | Record::Carried(group, _)
            | Record::Truncated(group, _, _)
            | Record::SnapshotIntent(group, _)
            | Record::SnapshotDone(group, _)
            | Record::Restated(group, _) => *group,
        }
    }

    /// The entries in it.
    pub(super) fn entries(&self) -> &[LogEntry] {
        match self {
            Record::Append(_, entries) | Record::Carried(_, entries) => entries,
            _ => &[],
        }
    }

    /// What [`Record::encode`] writes, in bytes.
    pub(super) fn encoded_bytes(&self) -> usize {
        let body = match self {
            Record::HardState(..) => HARD_STATE_BYTES,
            Record::Append(_, entries) | Record::Carried(_, entries) => {
                return entries_bytes_of(entries.iter().map(entry_bytes).sum());
            }
            Record::Truncated(..) => 16,
            Record::SnapshotIntent(_, meta) | Record::SnapshotDone(_, meta) => snapshot_bytes(meta),
            Record::Restated(_, restated) => {
                HARD_STATE_BYTES + 24 + 1 + restated.intent.as_ref().map_or(0, snapshot_bytes)
            }
        };
        RECORD_HEADER_BYTES + GROUP_BYTES + body
    }

    /// Cuts a record of entries in two, of which the first takes at most `bytes_max`, or has one entry.
    /// Both together say the same. None if there is nothing to cut.
    pub(super) fn split(&mut self, bytes_max: usize) -> Option<Record> {
        let (Record::Append(group, entries) | Record::Carried(group, entries)) = self else { return None };
        let mut bytes = entries_bytes_of(0);
        let keep = entries
            .iter()
            .take_while(|entry| {
                bytes += entry_bytes(entry);
                bytes <= bytes_max
            })
            .count()
            .max(1);
        if keep >= entries.len() {
            return None;
        }
        let (group, rest) = (*group, entries.split_off(keep));
        Some(if matches!(self, Record::Append(..)) {
            Record::Append(group, rest)
        } else {
            Record::Carried(group, rest)
        })
    }

    /// Writes itself to the front of `out`, which has room for [`Record::encoded_bytes`], and moves `out` behind it.
    pub(super) fn encode(&self, out: &mut &mut [u8]) {
        let body = (self.encoded_bytes() - RECORD_HEADER_BYTES) as u32;
        out.put_u8(self.kind());
        out.put_u32_le(body);
        out.put_u32_le(self.group().0);
        match self {
            Record::HardState(_, state) => put_hard_state(out, state),
            Record::Append(_, entries) | Record::Carried(_, entries) => put_entries(out, entries),
            Record::Truncated(_, index, term) => {
                out.put_u64_le(index.0);
                out.put_u64_le(term.0);
            }
            Record::SnapshotIntent(_, meta) | Record::SnapshotDone(_, meta) => put_snapshot(out, meta),
            Record::Restated(_, restated) => {
                put_hard_state(out, &restated.hard_state);
                out.put_u64_le(restated.truncated.0.0);
                out.put_u64_le(restated.truncated.1.0);
                out.put_u64_le(restated.last.0);
                out.put_u8(u8::from(restated.intent.is_some()));
                if let Some(meta) = &restated.intent {
                    put_snapshot(out, meta);
                }
            }
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Record::HardState(..) => HARD_STATE,
            Record::Append(..) => APPEND,
            Record::Carried(..) => CARRIED,
            Record::Truncated(..) => TRUNCATED,
            Record::SnapshotIntent(..) => SNAPSHOT_INTENT,
            Record::SnapshotDone(..) => SNAPSHOT_DONE,
            Record::Restated(..) => RESTATED,
        }
    }

    /// Reads exactly `count` records that fill all of `payload`.
    pub(super) fn decode_all(payload: &[u8], count: u32) -> Result<Vec<Record>, BadRecord> {
        // Each takes some bytes, so that a count cannot make us reserve more than a small multiple of what was read.
        if count as usize > payload.len() / RECORD_HEADER_BYTES {
            return Err(BadRecord::Malformed);
        }
        let mut records = Vec::with_capacity(count as usize);
        let mut reader = Reader(payload);
        for _ in 0..count {
            let (kind, body) = reader.frame().ok_or(BadRecord::Malformed)?;
            if !(HARD_STATE..=RESTATED).contains(&kind) {
                return Err(BadRecord::UnknownKind(kind));
            }
            let mut body = Reader(body);
            let record = body.record(kind).ok_or(BadRecord::Malformed)?;
            if !body.0.is_empty() {
                return Err(BadRecord::Malformed);
            }
            records.push(record);
        }
        if reader.0.is_empty() { Ok(records) } else { Err(BadRecord::Malformed) }
    }
}

fn put_hard_state(out: &mut &mut [u8], state: &HardState) {
    out.put_u64_le(state.term.0);
    // No node has the id 0.
    out.put_u64_le(state.vote.map_or(0, |node| node.0));
    out.put_u64_le(state.commit.0);
}

fn put_entries(out: &mut &mut [u8], entries: &[LogEntry]) {
    out.put_u64_le(entries.first().map_or(0, |entry| entry.index.0));
    out.put_u32_le(entries.len() as u32);
    for entry in entries {
        out.put_u64_le(entry.term.0);
        out.put_u8(entry.kind);
        out.put_u32_le(entry.context.len() as u32);
        out.put_u32_le(entry.data.len() as u32);
        out.put_slice(&entry.context);
        out.put_slice(&entry.data);
    }
}

fn put_snapshot(out: &mut &mut [u8], meta: &SnapshotMeta) {
    out.put_u64_le(meta.index.0);
    out.put_u64_le(meta.term.0);
    out.put_u32_le(meta.configuration.len() as u32);
    out.put_slice(&meta.configuration);
}

/// Takes fields from the front of bytes that may be anything. None: too few are left, or they make no sense.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    fn slice(&mut self, bytes: u32) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(bytes as usize)?;
        self.0 = tail;
        Some(head)
    }

    fn frame(&mut self) -> Option<(u8, &'a [u8])> {
        let kind = self.u8()?;
        let bytes = self.u32()?;
        Some((kind, self.slice(bytes)?))
    }

    fn record(&mut self, kind: u8) -> Option<Record> {
        let group = GroupId(self.u32()?);
        Some(match kind {
            HARD_STATE => Record::HardState(group, self.hard_state()?),
            APPEND => Record::Append(group, self.entries()?),
            CARRIED => Record::Carried(group, self.entries()?),
            TRUNCATED => Record::Truncated(group, LogIndex(self.u64()?), Term(self.u64()?)),
            SNAPSHOT_INTENT => Record::SnapshotIntent(group, self.snapshot()?),
            SNAPSHOT_DONE => Record::SnapshotDone(group, self.snapshot()?),
            RESTATED => Record::Restated(group, self.restated()?),
            _ => return None,
        })
    }

    fn hard_state(&mut self) -> Option<HardState> {
        let term = Term(self.u64()?);
        let vote = Some(NodeId(self.u64()?)).filter(|node| node.0 != 0);
        Some(HardState { term, vote, commit: LogIndex(self.u64()?) })
    }

    fn entries(&mut self) -> Option<Vec<LogEntry>> {
        let first = self.u64()?;
        let count = self.u32()?;
        if first == 0 || count == 0 || count as usize > self.0.len() / ENTRY_HEADER_BYTES {
            return None;
        }
        // The last index must leave room for one behind it: whoever holds entries counts with `last + 1`.
        first.checked_add(u64::from(count))?;
        let mut entries = Vec::with_capacity(count as usize);
        for index in (first..).take(count as usize) {
            let (term, kind, context, data) = (self.u64()?, self.u8()?, self.u32()?, self.u32()?);
            let context = Bytes::copy_from_slice(self.slice(context)?);
            let data = Bytes::copy_from_slice(self.slice(data)?);
            entries.push(LogEntry { index: LogIndex(index), term: Term(term), kind, data, context });
        }
        Some(entries)
    }

    fn snapshot(&mut self) -> Option<SnapshotMeta> {
        let (index, term, configuration) = (self.u64()?, self.u64()?, self.u32()?);
        let configuration = Bytes::copy_from_slice(self.slice(configuration)?);
        Some(SnapshotMeta { index: LogIndex(index), term: Term(term), configuration })
    }

    fn restated(&mut self) -> Option<Restated> {
        let hard_state = self.hard_state()?;
        let truncated = (LogIndex(self.u64()?), Term(self.u64()?));
        let last = LogIndex(self.u64()?);
        let intent = match self.u8()? {
            0 => None,
            1 => Some(self.snapshot()?),
            _ => return None,
        };
        (last >= truncated.0).then_some(Restated { hard_state, truncated, last, intent })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from)
    }

    fn any_entries() -> impl Strategy<Value = Vec<LogEntry>> {
        let entry = (any::<u64>(), any::<u8>(), any_bytes(), any_bytes());
        (1..u64::MAX - 10, prop::collection::vec(entry, 1..8)).prop_map(|(first, entries)| {
            let entry = |(index, (term, kind, data, context))| LogEntry {
                index: LogIndex(index),
                term: Term(term),
                kind,
                data,
                context,
            };
            (first..).zip(entries).map(entry).collect()
        })
    }

    fn any_hard_state() -> impl Strategy<Value = HardState> {
        (any::<u64>(), prop::option::of(1..=u64::MAX), any::<u64>()).prop_map(|(term, vote, commit)| HardState {
            term: Term(term),
            vote: vote.map(NodeId),
            commit: LogIndex(commit),
        })
    }

    fn any_snapshot() -> impl Strategy<Value = SnapshotMeta> {
        (any::<u64>(), any::<u64>(), any_bytes()).prop_map(|(index, term, configuration)| SnapshotMeta {
            index: LogIndex(index),
            term: Term(term),
            configuration,
        })
    }

    fn any_restated() -> impl Strategy<Value = Restated> {
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>());
        (any_hard_state(), numbers, prop::option::of(any_snapshot())).prop_map(|(hard_state, (a, term, b), intent)| {
            Restated { hard_state, truncated: (LogIndex(a.min(b)), Term(term)), last: LogIndex(a.max(b)), intent }
        })
    }

    fn any_record() -> impl Strategy<Value = Record> {
        (any::<u32>().prop_map(GroupId), 0..7).prop_flat_map(|(group, kind)| match kind {
            0 => any_hard_state().prop_map(move |state| Record::HardState(group, state)).boxed(),
            1 => any_entries().prop_map(move |entries| Record::Append(group, entries)).boxed(),
            2 => any_entries().prop_map(move |entries| Record::Carried(group, entries)).boxed(),
            3 => (any::<u64>(), any::<u64>())
                .prop_map(move |(index, term)| Record::Truncated(group, LogIndex(index), Term(term)))
                .boxed(),
            4 => any_snapshot().prop_map(move |meta| Record::SnapshotIntent(group, meta)).boxed(),
            5 => any_snapshot().prop_map(move |meta| Record::SnapshotDone(group, meta)).boxed(),
            _ => any_restated().prop_map(move |restated| Record::Restated(group, restated)).boxed(),
        })
    }

    fn encode(records: &[Record]) -> Vec<u8> {
        let mut bytes = vec![0; records.iter().map(Record::encoded_bytes).sum()];
        let mut rest = bytes.as_mut_slice();
        records.iter().for_each(|record| record.encode(&mut rest));
        assert!(rest.is_empty(), "as long as it said");
        bytes
    }

    proptest! {
        #[test]
        fn records_are_read_back(records in prop::collection::vec(any_record(), 0..10)) {
            let bytes = encode(&records);
            prop_assert_eq!(Record::decode_all(&bytes, records.len() as u32), Ok(records));
        }

        #[test]
        fn any_bytes_are_records_or_refused(
            records in prop::collection::vec(any_record(), 1..5),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
            length in any::<prop::sample::Index>(),
            count in 0..10u32,
        ) {
            let mut bytes = encode(&records);
            for (place, byte) in changes {
                bytes[place.index(records[0].encoded_bytes())] = byte;
            }
            bytes.truncate(length.index(bytes.len() + 1));
            if let Ok(records) = Record::decode_all(&bytes, count) {
                prop_assert_eq!(records.len(), count as usize);
                prop_assert_eq!(encode(&records), bytes);
            }
        }

        #[test]
        fn both_parts_of_a_record_say_what_it_said(entries in any_entries(), bytes_max in 0..400usize) {
            let mut parts = vec![Record::Append(GroupId(1), entries.clone())];
            while let Some(rest) = parts.last_mut().and_then(|last| last.split(bytes_max)) {
                parts.push(rest);
            }
            for part in &parts {
                prop_assert!(part.encoded_bytes() <= bytes_max || part.entries().len() == 1);
            }
            let joined: Vec<LogEntry> = parts.iter().flat_map(|part| part.entries().to_vec()).collect();
            prop_assert_eq!(joined, entries);
        }
    }

    #[test]
    fn a_new_kind_is_told_from_damage() {
        let mut bytes = encode(&[Record::Truncated(GroupId(1), LogIndex(2), Term(3))]);
        bytes[0] = RESTATED + 1;
        assert_eq!(Record::decode_all(&bytes, 1), Err(BadRecord::UnknownKind(RESTATED + 1)));
    }

    #[test]
    fn numbers_that_no_writer_writes_are_refused() {
        let entry = LogEntry {
            index: LogIndex(1),
            term: Term(1),
            kind: 0,
            data: Bytes::from_static(b"data"),
            context: Bytes::new(),
        };
        let bytes = encode(&[Record::Append(GroupId(1), vec![entry])]);
        // The count of entries, their first index, a length: as large as can be.
        for place in [RECORD_HEADER_BYTES + 12, RECORD_HEADER_BYTES + 4, RECORD_HEADER_BYTES + 16 + 13] {
            let mut bytes = bytes.clone();
            bytes[place..place + 4].fill(0xff);
            if place == RECORD_HEADER_BYTES + 4 {
                bytes[place + 4..place + 8].fill(0xff);
            }
            assert_eq!(Record::decode_all(&bytes, 1), Err(BadRecord::Malformed), "{place}");
        }
        assert_eq!(Record::decode_all(&bytes, u32::MAX), Err(BadRecord::Malformed));
        assert_eq!(Record::decode_all(&bytes, 0), Err(BadRecord::Malformed), "what is left over");
    }
}
