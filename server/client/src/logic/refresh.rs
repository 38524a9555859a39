//! When to ask for `Cluster.Status` again: at first, when something was wrong, and now and then while calls are made.

use super::{EndpointId, Policy};

#[derive(Debug)]
pub(super) struct Refresh {
    wanted: bool,
    under_way: bool,
    begun_ms: Option<u64>,
    succeeded_ms: Option<u64>,
    /// Who said that it knows more of the members than was known.
    pub(super) knows_more: Option<EndpointId>,
    /// One bit for each endpoint that did not answer since one did.
    pub(super) tried: u64,
}

impl Default for Refresh {
    fn default() -> Refresh {
        Refresh { wanted: true, under_way: false, begun_ms: None, succeeded_ms: None, knows_more: None, tried: 0 }
    }
}

impl Refresh {
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn is_due(&self, now_ms: u64, policy: &Policy) -> bool {
        let since = |time_ms: Option<u64>| time_ms.map_or(u64::MAX, |time_ms| now_ms.saturating_sub(time_ms));
        !self.under_way
            && since(self.begun_ms) >= policy.refresh_pause_ms
            && (self.wanted || since(self.succeeded_ms) >= policy.refresh_interval_ms)
    }

    pub(super) fn begin(&mut self, now_ms: u64) {
        self.under_way = true;
        self.begun_ms = Some(now_ms);
    }

    pub(super) fn succeeded(&mut self, now_ms: u64) {
        self.under_way = false;
        // What was heard while this was under way may not be in its answer.
        self.wanted = self.knows_more.is_some();
        self.tried = 0;
        self.succeeded_ms = Some(now_ms);
    }

    pub(super) fn failed(&mut self, endpoint: EndpointId) {
        self.under_way = false;
        self.wanted = true;
        self.tried |= endpoint.bit();
    }
}
