//! What runs went through beside faults, kind by kind: what the simulator never shows drey, it cannot have tried. Counted where it
//! took effect: a message when a shard gets it, an answer when a node gives it.

#[cfg(feature = "mutations")]
use std::collections::BTreeMap;

#[cfg(feature = "mutations")]
use drey_core::mutation::{Mutation, Reached};
use drey_core::raft::MessageKind;
use drey_core::request::{Command, Operation, ReadOp, Request, Write};
use drey_core::storage::StorageJob;
use drey_core::wire::{Body, Envelope};
use drey_core::{Error, Event, Input, Output};

/// The kinds of one sort of things, numbered in their order. The matches name every kind, so that a new one cannot be left out.
macro_rules! kinds {
    ($($(#[$doc:meta])* $sort:ident of $type:ty { $($name:ident = $pattern:pat,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum $sort { $($name,)* }

        impl $sort {
            const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            #[inline]
            fn of(value: &$type) -> $sort {
                match value { $($pattern => $sort::$name,)* }
            }
        }
    )*};
}

kinds! {
    /// What happens to a shard.
    Inputs of Input {
        Request = Input::Request(..),
        Message = Input::Message(..),
        PeerUp = Input::PeerUp(_),
        PeerDown = Input::PeerDown(_),
        PeerGone = Input::PeerGone(_),
        Members = Input::Members(_),
        HandOver = Input::HandOver,
        Room = Input::Room(_),
        LogSynced = Input::LogSynced(_),
        LogFailed = Input::LogFailed(..),
        SegmentReady = Input::SegmentReady(_),
        Storage = Input::Storage(_),
        Tick = Input::Tick,
    }
    /// What it wants done.
    Outputs of Output {
        WriteLog = Output::WriteLog(..),
        PrepareSegment = Output::PrepareSegment(_),
        ReleaseSegment = Output::ReleaseSegment(_),
        ReleaseEarlierEpochs = Output::ReleaseEarlierEpochs,
        Send = Output::Send(..),
        Storage = Output::Storage(_),
        Members = Output::Members(_),
        Link = Output::Link(_),
        Submit = Output::Submit(_),
        Wake = Output::Wake(_),
        Reply = Output::Reply(..),
        Report = Output::Report(_),
    }
    /// What its storage thread does.
    Jobs of StorageJob {
        Apply = StorageJob::Apply { .. },
        Read = StorageJob::Read { .. },
        Persist = StorageJob::Persist,
        Purge = StorageJob::Purge { .. },
        SnapshotOpen = StorageJob::SnapshotOpen { .. },
        SnapshotRead = StorageJob::SnapshotRead { .. },
        SnapshotClose = StorageJob::SnapshotClose { .. },
        SnapshotStage = StorageJob::SnapshotStage { .. },
        SnapshotForget = StorageJob::SnapshotForget { .. },
        SnapshotInstall = StorageJob::SnapshotInstall { .. },
        Scrub = StorageJob::Scrub { .. },
    }
    /// What it reports.
    Events of Event {
        BecameLeader = Event::BecameLeader(..),
        Follows = Event::Follows(..),
        Configured = Event::Configured(..),
        RefusedMessage = Event::RefusedMessage(..),
        DiskHangs = Event::DiskHangs,
        DiskBack = Event::DiskBack(_),
        RoomChanged = Event::RoomChanged(..),
        Damaged = Event::Damaged(_),
        ReplicasDiffer = Event::ReplicasDiffer { .. },
        FetchesAnew = Event::FetchesAnew(_),
        Failed = Event::Failed(_),
        SnapshotSending = Event::SnapshotSending(..),
        SnapshotGoesOn = Event::SnapshotGoesOn(..),
        SnapshotSent = Event::SnapshotSent(..),
        SnapshotInstalled = Event::SnapshotInstalled(..),
        Truncated = Event::Truncated(..),
        ClockJumped = Event::ClockJumped { .. },
    }
    /// What replicas say to each other.
    Bodies of Body {
        Raft = Body::Raft(_),
        Forward = Body::Forward { .. },
        Read = Body::Read { .. },
        ForwardReply = Body::ForwardReply { .. },
        Transfer = Body::Transfer { .. },
        Members = Body::Members(_),
        SnapshotChunk = Body::SnapshotChunk { .. },
        SnapshotAck = Body::SnapshotAck { .. },
        ClockAsk = Body::ClockAsk { .. },
        ClockTell = Body::ClockTell { .. },
        Room = Body::Room(_),
        Scrub = Body::Scrub { .. },
        Scrubbed = Body::Scrubbed { .. },
        Differs = Body::Differs { .. },
    }
    /// What their Rafts do.
    RaftMessages of MessageKind {
        Append = MessageKind::Append,
        AppendResponse = MessageKind::AppendResponse,
        Heartbeat = MessageKind::Heartbeat,
        HeartbeatResponse = MessageKind::HeartbeatResponse,
        RequestPreVote = MessageKind::RequestPreVote,
        RequestPreVoteResponse = MessageKind::RequestPreVoteResponse,
        RequestVote = MessageKind::RequestVote,
        RequestVoteResponse = MessageKind::RequestVoteResponse,
        Snapshot = MessageKind::Snapshot,
        TimeoutNow = MessageKind::TimeoutNow,
        ReadIndex = MessageKind::ReadIndex,
        ReadIndexResponse = MessageKind::ReadIndexResponse,
        Foreign = MessageKind::Foreign,
    }
    /// What clients ask.
    Requests of Operation {
        CreateBucket = Operation::Write(Command { write: Write::CreateBucket { .. }, .. }),
        DropBucket = Operation::Write(Command { write: Write::DropBucket { .. }, .. }),
        Put = Operation::Write(Command { write: Write::Put { .. }, .. }),
        Delete = Operation::Write(Command { write: Write::Delete { .. }, .. }),
        Expire = Operation::Write(Command { write: Write::Expire { .. }, .. }),
        Txn = Operation::Write(Command { write: Write::Txn { .. }, .. }),
        OpenSession = Operation::Write(Command { write: Write::OpenSession, .. }),
        Batch = Operation::Write(Command { write: Write::Batch { .. }, .. }),
        System = Operation::Write(Command { write: Write::System(_), .. }),
        Get = Operation::Read(_, _, ReadOp::Get { .. }),
        GetMany = Operation::Read(_, _, ReadOp::GetMany { .. }),
        Scan = Operation::Read(_, _, ReadOp::Scan { .. }),
        ScanNext = Operation::Read(_, _, ReadOp::ScanNext { .. }),
        ScanEnd = Operation::Read(_, _, ReadOp::ScanEnd { .. }),
        ListBuckets = Operation::Read(_, _, ReadOp::ListBuckets { .. }),
        DescribeBucket = Operation::Read(_, _, ReadOp::DescribeBucket { .. }),
        Members = Operation::Read(_, _, ReadOp::Members),
        Transfer = Operation::Transfer(..),
        Status = Operation::Status,
    }
    /// What they are told instead of an answer.
    Errors of Error {
        BucketNotFound = Error::BucketNotFound(_),
        BucketExists = Error::BucketExists(_),
        InvalidArgument = Error::InvalidArgument(_),
        ConditionFailed = Error::ConditionFailed,
        NoLeader = Error::NoLeader,
        NotReady = Error::NotReady(_),
        OutcomeUnknown = Error::OutcomeUnknown,
        SessionExpired = Error::SessionExpired,
        Overloaded = Error::Overloaded(_),
        QuotaExceeded = Error::QuotaExceeded(_),
        Refused = Error::Refused(_),
        DeadlineExceeded = Error::DeadlineExceeded,
        Compacted = Error::Compacted(_),
        DataLoss = Error::DataLoss(_),
        NotFound = Error::NotFound(_),
        Explained = Error::Explained { .. },
    }
}

/// Counts of what a run went through, that is no fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Turns of shards.
    pub turns: u64,
    /// Starts of nodes.
    pub starts: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Logs truncated.
    pub truncations: u64,
    /// Messages that the guard refused.
    pub refused_messages: u64,
    /// Tails cut at a start.
    pub seals: u64,
    inputs: [u64; Inputs::NAMES.len()],
    outputs: [u64; Outputs::NAMES.len()],
    jobs: [u64; Jobs::NAMES.len()],
    events: [u64; Events::NAMES.len()],
    bodies: [u64; Bodies::NAMES.len()],
    raft_messages: [u64; RaftMessages::NAMES.len()],
    requests: [u64; Requests::NAMES.len()],
    errors: [u64; Errors::NAMES.len()],
    /// By the number of a mutation, file and line.
    #[cfg(feature = "mutations")]
    sites: BTreeMap<(u8, &'static str, u32), u64>,
}

/// The counts of one sort of things, by the names of its kinds.
pub type Counted = (&'static str, Vec<(&'static str, u64)>);

impl Coverage {
    /// A shard got this.
    pub fn input(&mut self, input: &Input) {
        self.inputs[Inputs::of(input) as usize] += 1;
    }

    /// So many shards got this.
    pub fn inputs(&mut self, input: &Input, shards: usize) {
        self.inputs[Inputs::of(input) as usize] += shards as u64;
    }

    /// A shard got this from a peer.
    pub fn message(&mut self, envelope: &Envelope) {
        self.inputs[Inputs::Message as usize] += 1;
        self.bodies[Bodies::of(&envelope.body) as usize] += 1;
        if let Body::Raft(message) = &envelope.body {
            self.raft_messages[RaftMessages::of(&message.kind()) as usize] += 1;
        }
    }

    /// A shard got this from a client.
    pub fn request(&mut self, request: &Request) {
        self.inputs[Inputs::Request as usize] += 1;
        self.requests[Requests::of(&request.operation) as usize] += 1;
    }

    /// A shard wanted this done.
    pub fn output(&mut self, output: &Output) {
        self.outputs[Outputs::of(output) as usize] += 1;
        match output {
            Output::Storage(job) => self.jobs[Jobs::of(job) as usize] += 1,
            Output::Report(event) => self.events[Events::of(event) as usize] += 1,
            _ => {}
        }
    }

    /// A client was told this.
    pub fn error(&mut self, error: &Error) {
        self.errors[Errors::of(error) as usize] += 1;
        if let Error::Explained { error, .. } = error {
            self.error(error);
        }
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Coverage) {
        self.turns += other.turns;
        self.starts += other.starts;
        self.snapshots += other.snapshots;
        self.truncations += other.truncations;
        self.refused_messages += other.refused_messages;
        self.seals += other.seals;
        let sum = |own: &mut [u64], other: &[u64]| own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        sum(&mut self.inputs, &other.inputs);
        sum(&mut self.outputs, &other.outputs);
        sum(&mut self.jobs, &other.jobs);
        sum(&mut self.events, &other.events);
        sum(&mut self.bodies, &other.bodies);
        sum(&mut self.raft_messages, &other.raft_messages);
        sum(&mut self.requests, &other.requests);
        sum(&mut self.errors, &other.errors);
        #[cfg(feature = "mutations")]
        other.sites.iter().for_each(|(site, times)| *self.sites.entry(*site).or_default() += times);
    }

    /// Sites of mutations were reached.
    #[cfg(feature = "mutations")]
    pub fn reached(&mut self, sites: Vec<Reached>) {
        for Reached { mutation, site, times } in sites {
            *self.sites.entry((mutation.number(), site.file(), site.line())).or_default() += times;
        }
    }

    /// Of each mutation: its sites that were reached, and how often.
    #[cfg(feature = "mutations")]
    pub fn sites(&self) -> Vec<(Mutation, Vec<(String, u64)>)> {
        let of = |mutation: Mutation| {
            let own = self.sites.iter().filter(|((number, ..), _)| *number == mutation.number());
            (mutation, own.map(|((_, file, line), times)| (format!("{file}:{line}"), *times)).collect())
        };
        Mutation::ALL.iter().copied().map(of).collect()
    }

    /// All counts by sort and kind.
    pub fn sorts(&self) -> Vec<Counted> {
        let named = |names: &'static [&'static str], counts: &[u64]| {
            names.iter().copied().zip(counts.iter().copied()).collect::<Vec<_>>()
        };
        vec![
            ("message", named(Bodies::NAMES, &self.bodies)),
            ("raft message", named(RaftMessages::NAMES, &self.raft_messages)),
            ("request", named(Requests::NAMES, &self.requests)),
            ("error", named(Errors::NAMES, &self.errors)),
            ("input", named(Inputs::NAMES, &self.inputs)),
            ("output", named(Outputs::NAMES, &self.outputs)),
            ("storage job", named(Jobs::NAMES, &self.jobs)),
            ("event", named(Events::NAMES, &self.events)),
        ]
    }
}
