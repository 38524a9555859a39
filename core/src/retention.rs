//! Keeps a shard's log short: when there are too many segments, the oldest is cleared and released.
//!
//! First the store is made durable. Then each group forgets what the oldest segment holds of it, as far as the store has it;
//! what is left, and each group's state, is written again at the log's end. `log::retention` has the rule.
//!
//! While much is not committed, or not applied, the log is longer by as much. So it is while a member is being brought up: what
//! it will want when it has its snapshot is kept for it, within a limit. Without that it would need another snapshot, and another.

use std::collections::BTreeMap;

use crate::config::LogLimits;
use crate::log::retention::{Span, plan};
use crate::log::{LogWriter, Record};
use crate::mutation::{Mutation, is_on};
use crate::output::{Event, Output};
use crate::replica::Replica;
use crate::storage::StorageJob;
use crate::types::{GroupId, LogIndex};

/// While most of the log is still needed, so long passes until it is looked at again.
const LOOK_AGAIN_MS: u64 = 200;

/// Clears one segment at a time.
#[derive(Default)]
pub(crate) struct Retention {
    step: Step,
    /// Not before.
    look_ms: u64,
}

/// How far the clearing of the oldest segment is.
#[derive(Default)]
enum Step {
    /// There is nothing to clear.
    #[default]
    Idle,
    /// The store is being made durable.
    Persisting,
    /// It is, up to these entries.
    Persisted(BTreeMap<GroupId, LogIndex>),
}

impl Retention {
    /// The store is durable up to these entries.
    pub fn persisted(&mut self, applied: BTreeMap<GroupId, LogIndex>) {
        if matches!(self.step, Step::Persisting) {
            self.step = Step::Persisted(applied);
        }
    }

    /// Does the next step, if it can be done.
    pub fn go_on(
        &mut self,
        now_ms: u64,
        limits: &LogLimits,
        log: &mut LogWriter,
        replicas: &mut BTreeMap<GroupId, Replica>,
        out: &mut Vec<Output>,
    ) {
        match &self.step {
            // What was pushed for the last one comes first: faster than the disk writes, new entries would wait behind old ones, and
            // ever more of them would be needed.
            Step::Idle
                if log.live_segments() > limits.segments_kept
                    && (!log.is_releasing() || is_on(Mutation::CarriedFasterThanWritten))
                    && now_ms >= self.look_ms =>
            {
                out.push(Output::Storage(StorageJob::Persist));
                self.step = Step::Persisting;
            }
            Step::Persisted(durable) => {
                let durable = &without_held(durable, limits.held_bytes_max, replicas);
                match log.live_segments() > limits.segments_kept + segments_for(needed_bytes(durable, replicas), limits)
                {
                    true => clear_oldest(durable, log, replicas, out),
                    false => self.look_ms = now_ms + LOOK_AGAIN_MS,
                }
                self.step = Step::Idle;
            }
            _ => {}
        }
    }
}

/// How far each group's log may go: as far as the store has it, and no further than others still want it, as long as not too much
/// is kept for them. Those with the least go first.
fn without_held(
    durable: &BTreeMap<GroupId, LogIndex>,
    held_bytes_max: u64,
    replicas: &BTreeMap<GroupId, Replica>,
) -> BTreeMap<GroupId, LogIndex> {
    let mut free = durable.clone();
    let held = |(&group, &durable): (&GroupId, &LogIndex)| {
        let replica = replicas.get(&group)?;
        let from = replica.held_for_others().filter(|from| *from < durable)?;
        Some((replica.raft.bytes_between(from, durable), group, from))
    };
    let mut held: Vec<_> = durable.iter().filter_map(held).collect();
    held.sort_unstable();
    let mut room = held_bytes_max;
    for (bytes, group, from) in held {
        match room.checked_sub(bytes) {
            Some(left) => {
                room = left;
                free.insert(group, from);
            }
            None => break,
        }
    }
    free
}

/// Bytes of entries that only the log holds for sure.
fn needed_bytes(durable: &BTreeMap<GroupId, LogIndex>, replicas: &BTreeMap<GroupId, Replica>) -> u64 {
    let durable = |group| durable.get(group).copied().unwrap_or_default();
    replicas.iter().map(|(group, replica)| replica.raft.bytes_behind(durable(group))).sum()
}

/// How many more segments may live while so much is needed. What is needed would only be written again, and again, if the
/// log had no more room than that; with twice the room it is written again once at most while as much of something else is.
fn segments_for(needed_bytes: u64, limits: &LogLimits) -> usize {
    (2 * needed_bytes / limits.segment_bytes) as usize
}

fn clear_oldest(
    durable: &BTreeMap<GroupId, LogIndex>,
    log: &mut LogWriter,
    replicas: &mut BTreeMap<GroupId, Replica>,
    out: &mut Vec<Output>,
) {
    let Some(oldest) = log.oldest() else { return };
    let span = |(&group, replica): (&GroupId, &Replica)| {
        let durable = durable.get(&group).copied().unwrap_or_default();
        let (truncated, last) = (replica.raft.truncated().0, replica.raft.last_index());
        (group, Span { truncated, last, durable })
    };
    for plan in plan(&oldest, &replicas.iter().map(span).collect()) {
        let Some(replica) = replicas.get_mut(&plan.group) else { continue };
        if let Some(index) = plan.truncate {
            replica.raft.truncate(index);
            out.push(Output::Report(Event::Truncated(plan.group, index)));
        }
        log.push(Record::Restated(plan.group, replica.restated()));
        for (first, last) in plan.carry.iter() {
            log.push(Record::Carried(plan.group, replica.raft.entries(first, last)));
        }
    }
    log.release_oldest();
}
