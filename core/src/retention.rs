//! Keeps a shard's log short: when there are too many segments, the oldest is cleared and released.
//!
//! First the store is made durable. Then each group forgets what the oldest segment holds of it, as far as the store has it;
//! what is left, and each group's state, is written again at the log's end. `log::retention` has the rule.

use std::collections::BTreeMap;

use crate::log::retention::{Span, plan};
use crate::log::{LogWriter, Record};
use crate::output::{Event, Output};
use crate::replica::Replica;
use crate::storage::StorageJob;
use crate::types::{GroupId, LogIndex};

/// How far the clearing of the oldest segment is.
#[derive(Default)]
pub(crate) enum Retention {
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
        if matches!(self, Retention::Persisting) {
            *self = Retention::Persisted(applied);
        }
    }

    /// Does the next step, if it can be done.
    pub fn go_on(
        &mut self,
        segments_kept: usize,
        log: &mut LogWriter,
        replicas: &mut BTreeMap<GroupId, Replica>,
        out: &mut Vec<Output>,
    ) {
        match self {
            Retention::Idle if log.live_segments() > segments_kept => {
                out.push(Output::Storage(StorageJob::Persist));
                *self = Retention::Persisting;
            }
            Retention::Persisted(durable) => {
                clear_oldest(durable, log, replicas, out);
                *self = Retention::Idle;
            }
            _ => {}
        }
    }
}

fn clear_oldest(
    durable: &BTreeMap<GroupId, LogIndex>,
    log: &mut LogWriter,
    replicas: &mut BTreeMap<GroupId, Replica>,
    out: &mut Vec<Output>,
) {
    let Some((_, held)) = log.oldest() else { return };
    let span = |(&group, replica): (&GroupId, &Replica)| {
        let durable = durable.get(&group).copied().unwrap_or_default();
        let (truncated, last) = (replica.raft.truncated().0, replica.raft.last_index());
        (group, Span { truncated, last, durable })
    };
    for plan in plan(held, &replicas.iter().map(span).collect()) {
        let Some(replica) = replicas.get_mut(&plan.group) else { continue };
        if let Some(index) = plan.truncate {
            replica.raft.truncate(index);
            out.push(Output::Report(Event::Truncated(plan.group, index)));
        }
        log.push(Record::Restated(plan.group, replica.restated()));
        if let Some((_, last)) = plan.carry {
            log.push(Record::Carried(plan.group, replica.raft.entries_up_to(last)));
        }
    }
    log.release_oldest();
}
