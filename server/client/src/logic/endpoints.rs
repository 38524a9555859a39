//! The addresses that may be asked, and how each of them did lately.
//!
//! An endpoint that failed is passed over for a while ("suspect"). When the while is over a single call tries it, and
//! the rest keep passing it over until that call is answered. Where all are suspect they are tried all the same, the
//! one whose time ends first before the others: suspicion orders the endpoints, it never refuses a call.

use super::{Policy, View};

/// How many endpoints a client keeps. Members past this number are reached through the others.
pub const ENDPOINTS_MAX: usize = 64;

/// How many times the time of suspicion is doubled.
const SUSPECT_DOUBLINGS_MAX: u32 = 3;

/// One endpoint of one router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u8);

impl EndpointId {
    /// Its place among the endpoints, below [`ENDPOINTS_MAX`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn bit(self) -> u64 {
        1 << self.0
    }
}

#[derive(Debug)]
struct Endpoint {
    address: String,
    /// The member that answers there, once known.
    node: Option<u64>,
    /// Given by the caller, and hence kept when no member has the address.
    given: bool,
    /// No longer a member, or a member of another cluster.
    excluded: bool,
    failures: u32,
    suspect_until_ms: u64,
}

impl Endpoint {
    fn new(address: String, node: Option<u64>, given: bool) -> Endpoint {
        Endpoint { address, node, given, excluded: false, failures: 0, suspect_until_ms: 0 }
    }

    fn is_suspect(&self, now_ms: u64) -> bool {
        self.failures > 0 && now_ms < self.suspect_until_ms
    }

    fn suspect(&mut self, now_ms: u64, policy: &Policy) {
        let doublings = self.failures.saturating_sub(1).min(SUSPECT_DOUBLINGS_MAX);
        self.suspect_until_ms = now_ms.saturating_add(policy.suspect_ms.saturating_mul(1 << doublings));
    }
}

#[derive(Debug)]
pub(super) struct Endpoints {
    all: Vec<Endpoint>,
    /// Where calls go that have no leader to go to. Moves on when that endpoint fails.
    preferred: usize,
}

impl Endpoints {
    pub(super) fn new(addresses: impl Iterator<Item = String>) -> Endpoints {
        let mut endpoints = Endpoints { all: Vec::new(), preferred: 0 };
        for address in addresses {
            if endpoints.with_address(&address).is_none() {
                endpoints.add(Endpoint::new(address, None, true));
            }
        }
        endpoints
    }

    fn add(&mut self, endpoint: Endpoint) {
        if self.all.len() < ENDPOINTS_MAX {
            self.all.push(endpoint);
        } else if let Some(free) = self.all.iter_mut().find(|old| old.excluded && !old.given) {
            *free = endpoint;
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = EndpointId> + '_ {
        self.all.iter().enumerate().filter(|(_, endpoint)| !endpoint.excluded).map(|(index, _)| id(index))
    }

    pub(super) fn address(&self, endpoint: EndpointId) -> &str {
        &self.all[endpoint.index()].address
    }

    fn with_address(&self, address: &str) -> Option<usize> {
        self.all.iter().position(|endpoint| endpoint.address == address)
    }

    /// The endpoint of a member: one that answered for it before one that is only said to be its address.
    pub(super) fn of_node(&self, node: u64) -> Option<EndpointId> {
        self.all.iter().position(|endpoint| endpoint.node == Some(node) && !endpoint.excluded).map(id)
    }

    pub(super) fn is_usable(&self, endpoint: EndpointId, now_ms: u64) -> bool {
        let endpoint = &self.all[endpoint.index()];
        !endpoint.excluded && !endpoint.is_suspect(now_ms)
    }

    pub(super) fn has_untried(&self, tried: u64) -> bool {
        self.ids().any(|endpoint| tried & endpoint.bit() == 0)
    }

    /// The best endpoint that is not marked in `tried`: the preferred one, the others in order, suspects last.
    pub(super) fn choose(&self, now_ms: u64, tried: u64) -> Option<EndpointId> {
        let count = self.all.len();
        (0..count)
            .map(|distance| (distance, (self.preferred + distance) % count))
            .filter(|&(_, index)| !self.all[index].excluded && tried & id(index).bit() == 0)
            .min_by_key(|&(distance, index)| {
                let endpoint = &self.all[index];
                (if endpoint.is_suspect(now_ms) { endpoint.suspect_until_ms } else { 0 }, distance)
            })
            .map(|(_, index)| id(index))
    }

    /// A call is about to try `endpoint`: if it failed before, the other calls wait for what this one finds.
    pub(super) fn probing(&mut self, endpoint: EndpointId, now_ms: u64, policy: &Policy) {
        let endpoint = &mut self.all[endpoint.index()];
        if endpoint.failures > 0 {
            endpoint.suspect(now_ms, policy);
        }
    }

    pub(super) fn succeeded(&mut self, endpoint: EndpointId) {
        let endpoint = &mut self.all[endpoint.index()];
        endpoint.failures = 0;
        endpoint.suspect_until_ms = 0;
    }

    pub(super) fn failed(&mut self, failed: EndpointId, now_ms: u64, policy: &Policy) {
        let endpoint = &mut self.all[failed.index()];
        endpoint.failures = endpoint.failures.saturating_add(1);
        endpoint.suspect(now_ms, policy);
        self.pass_on(failed);
    }

    /// Prefers the next endpoint if `from` is the preferred one.
    pub(super) fn pass_on(&mut self, from: EndpointId) {
        if self.preferred == from.index() {
            self.preferred = (self.preferred + 1) % self.all.len();
        }
    }

    pub(super) fn exclude(&mut self, endpoint: EndpointId) {
        self.all[endpoint.index()].excluded = true;
        self.pass_on(endpoint);
    }

    /// The node behind an endpoint has said which it is.
    pub(super) fn is_node(&mut self, endpoint: EndpointId, node: u64) {
        self.all[endpoint.index()].node = Some(node);
    }

    /// Takes the members from a node's answer: new ones are added, and those that left are not asked again.
    pub(super) fn learn(&mut self, view: &View) {
        for (node, address) in &view.members {
            let known = self.all.iter().position(|endpoint| endpoint.node == Some(*node));
            match known.or_else(|| self.with_address(address)) {
                Some(index) => {
                    let endpoint = &mut self.all[index];
                    endpoint.node = Some(*node);
                    if !endpoint.given {
                        endpoint.excluded = false;
                        endpoint.address.clone_from(address);
                    }
                }
                None if address.is_empty() => {}
                None => self.add(Endpoint::new(address.clone(), Some(*node), false)),
            }
        }
        for endpoint in self.all.iter_mut().filter(|endpoint| !endpoint.given) {
            endpoint.excluded = !view.members.iter().any(|(node, _)| endpoint.node == Some(*node));
        }
    }
}

fn id(index: usize) -> EndpointId {
    EndpointId(u8::try_from(index).expect("there are at most ENDPOINTS_MAX endpoints"))
}
