//! How far a node has come with comparing the replicas of the groups that it leads.

use super::duration;
use super::output::say_bytes;
use drey_client::proto::StatusResponse;
use serde::Serialize;

/// In JSON.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct ScrubView {
    /// Groups led here.
    groups: usize,
    /// Those that were compared whole at least once since.
    compared: usize,
    /// The longest since a group was compared whole.
    oldest_ms_ago: Option<u64>,
    /// The group that is compared now, how much of it was read, and how much there was the last time.
    group: Option<u32>,
    bytes: u64,
    bytes_before: u64,
    differences: u64,
    unanswered: u64,
}

impl ScrubView {
    pub(super) fn of(status: &StatusResponse) -> ScrubView {
        let led = status.groups.iter().filter(|group| group.leader == status.node);
        let mut view = ScrubView::default();
        for (id, scrub) in led.filter_map(|group| Some((group.id, group.scrub.as_ref()?))) {
            view.groups += 1;
            view.compared += usize::from(scrub.passes > 0);
            view.oldest_ms_ago = view.oldest_ms_ago.max(scrub.ended_ms_ago);
            view.differences += scrub.differences;
            view.unanswered += scrub.unanswered;
            // Others wait for it, in the middle of a pass or not.
            if scrub.under_way && view.group.is_none() {
                (view.group, view.bytes, view.bytes_before) = (Some(id), scrub.bytes, scrub.bytes_before);
            }
        }
        view
    }

    pub(super) fn in_words(&self) -> String {
        let mut words = format!("{} of {} groups led here compared", self.compared, self.groups);
        if let Some(ms) = self.oldest_ms_ago {
            words += &format!(", the oldest {} ago", duration::say(ms));
        }
        if let Some(group) = self.group {
            words += &format!("; group {group}: {}", say_bytes(self.bytes));
            if self.bytes_before > 0 {
                words += &format!(" of about {}", say_bytes(self.bytes_before));
            }
        }
        if self.unanswered > 0 {
            words += &format!("; {} replicas did not answer", self.unanswered);
        }
        if self.differences > 0 {
            words += &format!("; REPLICAS DIFFERED {} times, see this node's log", self.differences);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drey_client::proto::{GroupStatus, Scrub};

    #[test]
    fn what_a_node_leads_is_summed_up() {
        let group = |id, leader, scrub| GroupStatus { id, leader, scrub, ..GroupStatus::default() };
        let whole = Scrub { passes: 2, bytes: 100, bytes_before: 100, ended_ms_ago: Some(61_000), ..Scrub::default() };
        let under_way = Scrub { under_way: true, bytes: 2 << 20, bytes_before: 8 << 20, ..whole };
        let mut status = StatusResponse { node: 1, ..StatusResponse::default() };
        assert_eq!(ScrubView::of(&status).in_words(), "0 of 0 groups led here compared");
        status.groups = vec![group(1, 1, Some(whole)), group(2, 3, None), group(3, 1, Some(Scrub::default()))];
        assert_eq!(ScrubView::of(&status).in_words(), "1 of 2 groups led here compared, the oldest 1m 1s ago");
        status.groups = vec![group(1, 1, Some(Scrub { differences: 1, unanswered: 1, ..under_way }))];
        assert_eq!(
            ScrubView::of(&status).in_words(),
            "1 of 1 groups led here compared, the oldest 1m 1s ago; group 1: 2.0 MiB of about 8.0 MiB; 1 replicas did not answer; \
             REPLICAS DIFFERED 1 times, see this node's log"
        );
    }
}
