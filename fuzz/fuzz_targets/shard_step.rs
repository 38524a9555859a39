//! A shard takes whatever peers and callers may send: any bytes are a sequence of messages, requests, completions and
//! time. It must neither panic nor stop.

#![no_main]

use std::collections::VecDeque;

use drey_core::config::{LogLimits, ScrubLimits, Timing, TransferLimits};
use drey_core::log::RecoveredLog;
use drey_core::raft::Message;
use drey_core::request::{Command, Operation, ReadMode, ReadOp, Request};
use drey_core::storage::{StorageJob, StorageWorker};
use drey_core::store::MemoryStore;
use drey_core::wire::frame::FrameReader;
use drey_core::wire::{Body, Envelope};
use drey_core::system::Founder;
use drey_core::{
    ClusterId, Config, Effects, GroupId, Inbox, Input, NodeId, Output, RequestId, Shard, ShardId, Tick, start_shard, turn,
};
use libfuzzer_sys::fuzz_target;

/// What the bytes are about.
struct World {
    shard: Shard,
    worker: StorageWorker<MemoryStore>,
    inbox: Inbox,
    now: Tick,
    asked: Asked,
    requests: u64,
}

/// What the shard wants done.
#[derive(Default)]
struct Asked {
    disk: VecDeque<Input>,
    jobs: VecDeque<StorageJob>,
}

impl Effects for Asked {
    fn perform(&mut self, output: Output) {
        match output {
            Output::WriteLog(ticket, write) => {
                let mut bytes = vec![0; write.len()];
                write.encode_into(&mut bytes);
                self.disk.push_back(Input::LogSynced(ticket));
            }
            Output::PrepareSegment(segment) => self.disk.push_back(Input::SegmentReady(segment)),
            Output::Storage(job) => self.jobs.push_back(job),
            _ => {}
        }
    }
}

/// Takes bytes off the front; zeros behind the end.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// As many as the next byte says, at most what there is.
    fn part(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (part, rest) = self.0.split_at(length);
        self.0 = rest;
        part
    }
}

impl World {
    fn new() -> World {
        let config = Config {
            node: NodeId(1),
            cluster: ClusterId(7),
            epoch: 0,
            shard: ShardId(0),
            shards: 1,
            groups: 1,
            founders: [1, 2, 3].map(Founder::numbered).to_vec(),
            timing: Timing::default(),
            log: LogLimits { segment_bytes: 64 << 10, segments_kept: 2, held_bytes_max: 64 << 10 },
            transfer: TransferLimits::default(),
            scrub: ScrubLimits::default(),
        };
        let now = Tick { mono_ms: 1000, wall_ms: 0 };
        let log =
            RecoveredLog { next_epoch: 1, groups: Default::default(), segments: Vec::new(), seals: Vec::new() };
        let (shard, worker) = start_shard(config, 1, now, &log, MemoryStore::new()).expect("an empty start");
        let mut inbox = Inbox::default();
        inbox.push(Input::PeerUp(NodeId(2)));
        World { shard, worker, inbox, now, asked: Asked::default(), requests: 0 }
    }

    fn step(&mut self, bytes: &mut Bytes) {
        let kind = bytes.byte();
        let peer = NodeId(2 + u64::from(kind >> 7));
        match kind & 0x0f {
            0 => self.now.mono_ms += u64::from(bytes.byte()),
            1 => self.inbox.extend_with(self.asked.disk.pop_front()),
            2 => {
                let job = self.asked.jobs.pop_front();
                let done = job.map(|job| Input::Storage(self.worker.run(job)));
                self.inbox.extend_with(done);
            }
            3 if kind & 0x20 != 0 => self.inbox.push(Input::HandOver),
            3 => self.inbox.push(Input::PeerUp(peer)),
            4 if kind & 0x20 != 0 => self.inbox.push(Input::PeerGone(peer)),
            4 => self.inbox.push(Input::PeerDown(peer)),
            5 => {
                if let Ok(command) = Command::decode(bytes.part().to_vec().into()) {
                    self.request(Operation::Write(command), bytes.byte());
                }
            }
            6 => {
                let mode = if bytes.byte() & 1 == 0 { ReadMode::Linearizable } else { ReadMode::Local };
                let op = ReadOp::ListBuckets { prefix: String::new() };
                self.request(Operation::Read(GroupId(u32::from(bytes.byte() & 1)), mode, op), bytes.byte());
            }
            7 => {
                // A frame with its checksum, as a peer could make it: nothing else gets past the reader.
                if let Ok(Some(envelopes)) = FrameReader::default().read(bytes.part().to_vec().into()) {
                    envelopes.into_iter().for_each(|envelope| self.inbox.push(Input::Message(peer, envelope)));
                }
            }
            _ => {
                if let Ok(message) = Message::decode(bytes.part().to_vec().into()) {
                    let envelope = Envelope { group: GroupId(u32::from(kind >> 4) & 1), body: Body::Raft(message) };
                    self.inbox.push(Input::Message(peer, envelope));
                }
            }
        }
        if kind & 0x40 == 0 {
            turn(&mut self.shard, self.now, &mut self.inbox, &mut Vec::new(), &mut self.asked);
        }
    }

    fn request(&mut self, operation: Operation, deadline: u8) {
        self.requests += 1;
        let deadline_ms = self.now.mono_ms + u64::from(deadline) * 100;
        // A full inbox refuses it, which is an answer.
        let _ = self.inbox.request(RequestId(self.requests), Request { deadline_ms, operation });
    }
}

/// Takes what there is.
trait ExtendWith {
    fn extend_with(&mut self, input: Option<Input>);
}

impl ExtendWith for Inbox {
    fn extend_with(&mut self, input: Option<Input>) {
        input.into_iter().for_each(|input| self.push(input));
    }
}

fuzz_target!(|data: &[u8]| {
    let mut world = World::new();
    let mut bytes = Bytes(data);
    while !bytes.0.is_empty() {
        world.step(&mut bytes);
    }
    assert_eq!(world.shard.failed(), None);
});
