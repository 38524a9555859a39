//! A segment as lines of text, for people: all that is in it, in the order of its bytes. Nothing is judged, and nothing is left out:
//! what cannot be read is named where it is, and reading goes on behind it. What it all comes to, recovery says.

use crate::machine::entry::EntryCommands;
use crate::raft::{Configuration, change_in_words};
use crate::storage::SnapshotMeta;
use crate::types::{ClusterId, GroupId, NodeId};

use super::batch::{BatchHeader, BatchKind, Batches, NoBatch};
use super::record::BadRecord;
use super::segment::{NoHeader, SegmentHeader, checksum_seed};
use super::{BLOCK_BYTES, HardState, LogEntry, Record, SEGMENT_BYTES_MAX, SegmentId};

/// Raft's entries of commands; all others change the configuration.
const COMMANDS: u8 = 0;

/// A line about a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpLine {
    /// Where in the segment the batch begins, in bytes, that it is about; none: the segment as a whole.
    pub offset: Option<u64>,
    /// The group that it is about, if it is about one.
    pub group: Option<GroupId>,
    /// What it says.
    pub text: String,
}

/// Reads a segment, whole, and tells `tell` each line. `cluster` and `node` are its owner's: if the segment names another, that one's
/// checksums are tried.
pub fn dump(segment: SegmentId, bytes: &[u8], cluster: ClusterId, node: NodeId, tell: &mut dyn FnMut(DumpLine)) {
    let mut say = |offset, group, text| tell(DumpLine { offset, group, text });
    let (mut owner, mut segment_bytes) = ((cluster, node), SEGMENT_BYTES_MAX);
    match SegmentHeader::decode(bytes) {
        Ok(header) => {
            (owner, segment_bytes) = ((header.cluster, header.node), header.segment_bytes);
            let SegmentHeader { cluster, node, .. } = header;
            let is_here = if header.segment == segment { String::new() } else { format!(", as {}", header.segment) };
            let size = if header.segment_bytes == bytes.len() as u64 {
                format!("{} bytes", bytes.len())
            } else {
                format!("{} bytes, of which there are {}", header.segment_bytes, bytes.len())
            };
            say(None, None, format!("cluster {cluster}, node {node}{is_here}, {size}"));
        }
        Err(NoHeader::Version(version)) => {
            return say(None, None, format!("its format is of version {version}, which this drey does not know"));
        }
        Err(NoHeader::Invalid) => say(None, None, "its header is damaged, or was never written".to_owned()),
    }
    let batches = Batches::new(checksum_seed(owner.0, owner.1, segment), segment, bytes, segment_bytes);
    let mut unread = None;
    let mut offset = BLOCK_BYTES as u64;
    while offset < batches.bytes() {
        let header = match batches.header(offset) {
            Ok(header) => header,
            Err(why) => {
                unread.get_or_insert((offset, why));
                offset += BLOCK_BYTES as u64;
                continue;
            }
        };
        if let Some(unread) = unread.take() {
            say_unread(unread, offset, &mut say);
        }
        say_batch(&batches, &header, &mut say);
        offset += header.padded_bytes() as u64;
    }
    if let Some(unread) = unread {
        say_unread(unread, batches.bytes(), &mut say);
    }
}

type Say<'a> = dyn FnMut(Option<u64>, Option<GroupId>, String) + 'a;

fn say_unread((from, why): (u64, NoBatch), to: u64, say: &mut Say<'_>) {
    let why = match why {
        NoBatch::Invalid => "never written, damaged, or of an earlier use of the file".to_owned(),
        NoBatch::Version(version) => format!("the first is of version {version}, which this drey does not know"),
    };
    say(Some(from), None, format!("no batch begins in these {} bytes: {why}", to - from));
}

fn say_batch(batches: &Batches<'_>, header: &BatchHeader, say: &mut Say<'_>) {
    let at = Some(header.offset);
    let what = match header.kind {
        BatchKind::Records => format!("{}, {} bytes", counted(header.records as usize, "record"), header.payload_bytes),
        BatchKind::Attest => "attests what is before it".to_owned(),
        BatchKind::Seal => "seals the chain".to_owned(),
    };
    let carried = if header.earlier_epochs_carried { "; earlier epochs are carried over" } else { "" };
    say(
        at,
        None,
        format!(
            "batch {}: {what}; synced through {}; segments from {} to {} are needed{carried}",
            header.sequence, header.synced_through, header.oldest, header.newest
        ),
    );
    let Some(payload) = batches.payload(header) else {
        return say(at, None, "its records are damaged, or were not written whole".to_owned());
    };
    match Record::decode_all(payload, header.records) {
        Ok(records) => records.iter().for_each(|record| say_record(at, record, say)),
        Err(BadRecord::UnknownKind(kind)) => {
            say(at, None, format!("a record is of kind {kind}, which this drey does not know"));
        }
        Err(BadRecord::Malformed) => say(at, None, "its records make no sense under a good checksum".to_owned()),
    }
}

fn say_record(at: Option<u64>, record: &Record, say: &mut Say<'_>) {
    let group = Some(record.group());
    let mut say = |text| say(at, group, text);
    match record {
        Record::HardState(_, state) => say(hard_state(state)),
        Record::Append(_, entries) => entries.iter().for_each(|entry| say_entry("entry", entry, &mut say)),
        Record::Carried(_, entries) => entries.iter().for_each(|entry| say_entry("carried entry", entry, &mut say)),
        Record::Truncated(_, index, term) => say(format!("truncated up to entry {index} of term {term}")),
        Record::SnapshotIntent(_, meta) => say(format!("begins to install a snapshot of {}", snapshot(meta))),
        Record::SnapshotDone(_, meta) => say(format!("has installed a snapshot of {}", snapshot(meta))),
        Record::Restated(_, restated) => {
            let (index, term) = restated.truncated;
            let intent = restated
                .intent
                .as_ref()
                .map_or(String::new(), |meta| format!("; a snapshot of {} is being installed", snapshot(meta)));
            say(format!(
                "restated: {}; truncated up to entry {index} of term {term}; the last entry is {}{intent}",
                hard_state(&restated.hard_state),
                restated.last
            ));
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn hard_state(state: &HardState) -> String {
    let vote = state.vote.map_or("no vote".to_owned(), |node| format!("a vote for node {node}"));
    format!("term {}, {vote}, committed up to {}", state.term, state.commit)
}

fn snapshot(meta: &SnapshotMeta) -> String {
    let members = Configuration::decode(&meta.configuration).map_or_else(str::to_owned, |members| members.to_string());
    format!("entry {} of term {}, {members}", meta.index, meta.term)
}

fn say_entry(what: &str, entry: &LogEntry, say: &mut dyn FnMut(String)) {
    let LogEntry { index, term, kind, data, .. } = entry;
    let head = format!("{what} {index} of term {term}");
    if *kind != COMMANDS {
        return say(format!("{head}: {}", change_in_words(*kind, data)));
    }
    let commands = match EntryCommands::new(data.clone()) {
        Ok(_) if data.is_empty() => return say(format!("{head}: a leader begins")),
        Ok(commands) => commands,
        Err(error) => return say(format!("{head}: {error}")),
    };
    let clock = commands.stamp.clock_ms;
    match commands.size_hint().0 {
        0 => say(format!("{head}: the clock shows {clock} ms")),
        count => say(format!("{head}: {}, the clock shows {clock} ms", counted(count, "command"))),
    }
    for command in commands {
        say(command.map_or_else(|error| format!("  {error}"), |command| format!("  {command}")));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::log::{LogConfig, LogWriter};
    use crate::machine::entry::{EntryBuilder, Stamp};
    use crate::name::BucketName;
    use crate::output::Output;
    use crate::request::{Command, Write};
    use crate::types::{LogIndex, Term, Ticket};

    const CLUSTER: ClusterId = ClusterId(5);
    const NODE: NodeId = NodeId(6);
    const SEGMENT: SegmentId = SegmentId { epoch: 1, shard: 0, number: 0 };
    const GROUP: GroupId = GroupId(3);

    /// What a shard wrote into its first segment.
    fn written(batches: &[&[Record]]) -> Vec<u8> {
        let config = LogConfig { cluster: CLUSTER, node: NODE, shards: 1, segment_bytes: 8 * BLOCK_BYTES as u64 };
        let mut bytes = vec![0; 8 * BLOCK_BYTES];
        config.header(SEGMENT).encode_into(&mut bytes[..BLOCK_BYTES]);
        let mut log = LogWriter::new(config, 1, 0);
        let mut tickets = 0;
        let mut turn = |log: &mut LogWriter| {
            let mut out = Vec::new();
            let next = &mut || {
                tickets += 1;
                Ticket(tickets)
            };
            log.turn(next, &mut out);
            out
        };
        turn(&mut log);
        log.segment_ready(SEGMENT).expect("it was asked for");
        for records in batches {
            records.iter().for_each(|record| log.push(record.clone()));
            for output in turn(&mut log) {
                if let Output::WriteLog(ticket, write) = output {
                    let at = write.offset as usize;
                    write.encode_into(&mut bytes[at..at + write.len()]);
                    log.synced(ticket).expect("it is under way");
                }
            }
        }
        bytes
    }

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        dump(SEGMENT, bytes, CLUSTER, NODE, &mut |line| {
            let at = line.offset.map_or(String::new(), |offset| offset.to_string());
            let group = line.group.map_or(String::new(), |group| format!("g{group} "));
            lines.push(format!("{at} {group}{}", line.text));
        });
        lines
    }

    fn append(index: u64, data: Vec<u8>) -> Record {
        let (index, term) = (LogIndex(index), Term(2));
        Record::Append(GROUP, vec![LogEntry { index, term, kind: 0, data: data.into(), context: Bytes::new() }])
    }

    fn commands() -> Vec<u8> {
        let mut entry = EntryBuilder::new();
        entry.push(&Command {
            bucket: BucketName::DEFAULT,
            id: None,
            write: Write::DropBucket { created_version: None },
        });
        entry.finish(0, Stamp { clock_ms: 50, ..Stamp::default() })
    }

    #[test]
    fn all_that_was_written_is_told_and_what_was_damaged_is_named() {
        let hard_state = HardState { term: Term(2), vote: Some(NodeId(1)), commit: LogIndex(4) };
        let mut bytes = written(&[
            &[Record::HardState(GROUP, hard_state), append(5, Vec::new())],
            &[append(6, commands())],
            &[Record::Truncated(GROUP, LogIndex(5), Term(2))],
        ]);
        let batch = |number, what| {
            let before = number - 1;
            format!(
                "{} batch {number}: {what}; synced through {before}; segments from 0 to 0 are needed",
                number * 4096
            )
        };
        let name = "00000000000000000000000000000005";
        let whole = vec![
            format!(" cluster {name}, node 6, 32768 bytes"),
            batch(1, "2 records, 71 bytes"),
            "4096 g3 term 2, a vote for node 1, committed up to 4".to_owned(),
            "4096 g3 entry 5 of term 2: a leader begins".to_owned(),
            batch(2, "1 record, 90 bytes"),
            "8192 g3 entry 6 of term 2: 1 command, the clock shows 50 ms".to_owned(),
            "8192 g3   drop bucket default".to_owned(),
            batch(3, "1 record, 25 bytes"),
            "12288 g3 truncated up to entry 5 of term 2".to_owned(),
            "16384 no batch begins in these 16384 bytes: never written, damaged, or of an earlier use of the file"
                .to_owned(),
        ];
        assert_eq!(lines(&bytes), whole);
        // A bit of the second batch's records, then of its header.
        bytes[2 * BLOCK_BYTES + 130] ^= 1;
        let damaged = lines(&bytes);
        assert_eq!(damaged[5], "8192 its records are damaged, or were not written whole");
        assert_eq!(damaged[6..], whole[7..]);
        bytes[2 * BLOCK_BYTES] ^= 1;
        let damaged = lines(&bytes);
        assert_eq!(
            damaged[4],
            "8192 no batch begins in these 4096 bytes: never written, damaged, or of an earlier use of the file"
        );
        assert_eq!(damaged[5..], whole[7..]);
        bytes[0] ^= 1;
        assert_eq!(lines(&bytes)[0], " its header is damaged, or was never written");
        assert_eq!(lines(&bytes)[1..4], whole[1..4], "the batches are read by the owner's name");
    }
}
