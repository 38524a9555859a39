//! Performs what a shard asks for: starts it, with the delay that the plan draws, and dies in the middle if it is to.

use std::collections::VecDeque;
use std::sync::Arc;

use drey_core::config::Config;
use drey_core::log::BLOCK_BYTES;
use drey_core::request::{Command, Reply};
use drey_core::storage::StorageJob;
use drey_core::system::Members;
use drey_core::{Effects, Error, Event, NodeId, Output, RequestId};
use xxhash_rust::xxh3::xxh3_64;

use crate::checker::Violation;
use crate::disk::Disk;
use crate::faults::Fault;
use crate::identity::OfOutput;
use crate::links::Links;
use crate::node::{Behind, Death, Doom};
use crate::plan::StoragePlan;
use crate::process::{Completion, PREPARE_RETRY_MS, Pending};
use crate::rng::Rng;
use crate::shared::Shared;
use crate::story::{Event as Told, What, words};

/// So many effects may still be performed behind a promise.
const EFFECTS_BEHIND_MAX: u64 = 6;
/// What takes longer is counted as slow.
const SLOW_MS_MIN: u64 = 100;

/// The effects of one shard's turn.
pub struct Performer<'a> {
    /// Where.
    pub host: usize,
    /// Whose.
    pub node: NodeId,
    /// Which shard's.
    pub number: usize,
    /// The shard's settings, but for its number.
    pub config: &'a Config,
    /// How fast disk and store are.
    pub storage: &'a StoragePlan,
    /// No segment can be made.
    pub is_full: bool,
    /// What is written is not synced before.
    pub disk_hangs_until_ms: &'a mut u64,
    /// Draws delays.
    pub rng: &'a mut Rng,
    /// The shard's storage thread.
    pub jobs: &'a mut VecDeque<StorageJob>,
    /// When it has done all of them.
    pub busy_until_ms: &'a mut u64,
    /// To the peers.
    pub links: &'a mut Links,
    /// What is under way.
    pub pending: &'a mut Pending,
    /// The node's disk.
    pub disk: &'a mut Disk,
    /// The world.
    pub shared: &'a mut Shared,
    /// A death to come.
    pub doom: &'a mut Option<Doom>,
    /// A death whose time is known.
    pub stall: &'a mut Option<(u64, Death)>,
    /// It came.
    pub died: &'a mut Option<Death>,
    /// To clients.
    pub answers: Vec<(RequestId, Result<Reply, Error>)>,
    /// Who the members are, if that changed.
    pub told: Option<Arc<Members>>,
    /// Peers whose links are gone for it.
    pub gone: Vec<NodeId>,
    /// Writes of the node's own.
    pub submitted: Vec<Command>,
    /// How many shards have carried over what earlier epochs held.
    pub carried: &'a mut usize,
}

impl Effects for Performer<'_> {
    fn perform(&mut self, output: Output) {
        if self.died.is_some() || self.dies_before(&output) {
            self.shared.trace.silently(&OfOutput(&output));
            return;
        }
        self.shared.coverage.output(&output);
        let identity = (self.node, self.number, OfOutput(&output));
        match output {
            // Answers and the bytes of writes and frames have lines of their own.
            Output::Send(..) | Output::WriteLog(..) | Output::Reply(..) => self.shared.trace.silently(&identity),
            _ => {
                let text = format_args!("n{}.{} -> {output:?}", self.node, self.number);
                self.shared.trace.identified(&identity, text);
            }
        }
        let host = self.host;
        self.shared.trace.tell(|| words::output(host, &output));
        let performed = match output {
            Output::WriteLog(ticket, write) => {
                let mut bytes = vec![0; write.len()];
                write.encode_into(&mut bytes);
                let (node, number) = (self.node, self.number);
                let hash = xxh3_64(&bytes);
                self.shared.trace.identified(&hash, format_args!("n{node}.{number} -> {ticket:?} {write:?}"));
                let due_ms = self.synced_ms(write.len());
                let fails = self.storage.one_fails_in > 0 && self.rng.below(self.storage.one_fails_in) == 0;
                let started = self.disk.write(write.segment, write.offset, bytes, hash);
                let completion = if fails { Completion::LogFails } else { Completion::Log };
                started.map(|op| self.pending.push(due_ms, completion(number, ticket, op)))
            }
            Output::PrepareSegment(segment) if self.is_full => {
                self.shared.faults.happened(Fault::NoRoomForSegment);
                self.pending.push(self.shared.now_ms + PREPARE_RETRY_MS, Completion::Retry(self.number, segment));
                Ok(())
            }
            Output::PrepareSegment(segment) => {
                let due_ms = self.synced_ms(0);
                let started = self.disk.prepare_for(&self.config.log_config(), segment, &mut self.shared.faults);
                started.map(|op| self.pending.push(due_ms, Completion::Segment(self.number, segment, op)))
            }
            Output::ReleaseSegment(segment) => {
                self.disk.delete(segment);
                Ok(())
            }
            Output::ReleaseEarlierEpochs => {
                *self.carried += 1;
                Ok(())
            }
            Output::Send(to, envelope) => {
                let bytes = self.links.send(to, self.number, &envelope);
                self.shared.trace.silently(&bytes);
                let (links, number) = (&*self.links, self.number);
                self.shared.trace.tell(|| {
                    let (topic, text) = words::envelope(&envelope);
                    let event = match links.last(host, to, number) {
                        Some((peer, parcel)) => Told::new(host, topic, text).did(What::Sent(peer, parcel)),
                        None => Told::new(host, topic, format!("unsent to n{to}: {text}")),
                    };
                    Some(event.of(envelope.group))
                });
                Ok(())
            }
            Output::Storage(job) => {
                let start_ms = self.shared.now_ms.max(*self.busy_until_ms);
                *self.busy_until_ms = start_ms + self.job_ms();
                self.jobs.push_back(job);
                self.pending.push(*self.busy_until_ms, Completion::Job(self.number));
                Ok(())
            }
            Output::Members(members) => {
                self.told = Some(members);
                Ok(())
            }
            Output::Link(members) => {
                self.gone.extend(self.links.meet(&members));
                Ok(())
            }
            Output::Submit(command) => {
                self.submitted.push(command);
                Ok(())
            }
            Output::Wake(after_ms) => {
                self.pending.push(self.shared.now_ms + after_ms, Completion::Wake(self.number));
                Ok(())
            }
            Output::Reply(id, answer) => {
                // Who fills a bucket is told of the bucket.
                if let Err(Error::QuotaExceeded(why)) = &answer
                    && !why.starts_with("bucket \"hoard\"")
                {
                    self.shared.refused_for_room(why);
                }
                self.answers.push((id, answer));
                Ok(())
            }
            Output::Report(event) => {
                self.reported(event);
                Ok(())
            }
        };
        if let Err(seen) = performed {
            let seen = format!("node {} shard {}: {seen}", self.node, self.number);
            self.shared.violated(Violation::new("the log's rules for its files", seen));
        }
    }
}

impl Performer<'_> {
    /// Whether the process dies instead of performing this effect. If it dies behind it, that is arranged.
    fn dies_before(&mut self, output: &Output) -> bool {
        let Some(doom) = self.doom else { return false };
        doom.effects = doom.effects.saturating_sub(1);
        if doom.effects > 0 {
            return false;
        }
        let awaited = match doom.behind {
            Behind::Anything => None,
            Behind::Write => Some(matches!(output, Output::WriteLog(..) | Output::PrepareSegment(_))),
            Behind::FirstWrite => {
                Some(matches!(output, Output::WriteLog(_, write) if write.offset == BLOCK_BYTES as u64))
            }
            Behind::Promise => Some(matches!(output, Output::WriteLog(_, write) if write.is_promise())),
        };
        if let Some(is_it) = awaited {
            if is_it && doom.stalls_ms > 0 {
                let until_ms = self.shared.now_ms + doom.stalls_ms;
                *self.disk_hangs_until_ms = until_ms;
                *self.stall = Some((until_ms, doom.death));
                *self.doom = None;
            } else if is_it {
                // The next effect, then, whatever it is, does not happen; or one of the next, when messages are sent behind a write.
                doom.effects = if doom.behind == Behind::Promise { self.rng.below(EFFECTS_BEHIND_MAX) } else { 0 };
                doom.behind = Behind::Anything;
            }
            return false;
        }
        self.shared.happened(
            self.host,
            Fault::DiedInTurn,
            format_args!("node {} shard {}: {doom:?}", self.node, self.number),
        );
        *self.died = Some(doom.death);
        true
    }

    /// When so many bytes will be synced.
    fn synced_ms(&mut self, bytes: usize) -> u64 {
        let written_ms = bytes as u64 / self.storage.log_bytes_per_ms;
        (self.shared.now_ms + written_ms + self.sync_ms()).max(*self.disk_hangs_until_ms)
    }

    fn sync_ms(&mut self) -> u64 {
        let StoragePlan { sync_ms_max, slow_sync, slow_ms_max, .. } = *self.storage;
        self.delay_ms((sync_ms_max, slow_sync, slow_ms_max), Fault::SlowDisk)
    }

    fn job_ms(&mut self) -> u64 {
        let StoragePlan { job_ms_max, slow_job, slow_ms_max, .. } = *self.storage;
        self.delay_ms((job_ms_max, slow_job, slow_ms_max), Fault::SlowStore)
    }

    fn delay_ms(&mut self, (mostly_max, slow, slow_max): (u64, u32, u64), fault: Fault) -> u64 {
        if !self.rng.chance(slow) {
            return self.rng.between(0, mostly_max);
        }
        self.shared.faults.happened(fault);
        self.rng.between(SLOW_MS_MIN, slow_max)
    }

    fn reported(&mut self, event: Event) {
        match event {
            Event::BecameLeader(group, term) => {
                let judged = self.shared.watch.leads(group, term.0, self.node);
                self.shared.judge(judged);
            }
            Event::RefusedMessage(..) => self.shared.coverage.refused_messages += 1,
            Event::SnapshotInstalled(..) => self.shared.coverage.snapshots += 1,
            Event::DiskHangs => self.shared.faults.happened(Fault::DiskHangs),
            Event::Truncated(..) => self.shared.coverage.truncations += 1,
            Event::FetchesAnew(group) => self.shared.told_apart(group, &[self.node]),
            Event::ReplicasDiffer { group, replicas, majority: true, .. } => self.shared.told_apart(group, &replicas),
            // Two are compared, and one of them is wrong.
            Event::ReplicasDiffer { majority: false, .. } if !self.shared.altered.is_empty() => {}
            Event::ReplicasDiffer { group, replicas, .. } => self.shared.told_apart(group, &replicas),
            // A failure is found by asking the shard.
            Event::Failed(_)
            | Event::Damaged(_)
            | Event::DiskBack(_)
            | Event::RoomChanged(..)
            | Event::Follows(..)
            | Event::Configured(..)
            | Event::SnapshotSending(..)
            | Event::SnapshotGoesOn(..)
            | Event::SnapshotSent(..)
            | Event::ClockJumped { .. } => {}
        }
    }
}
