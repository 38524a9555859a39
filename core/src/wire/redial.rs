//! When a peer is dialed again after a link to it broke, and what it says of the peer when nobody listens there.

/// The first wait, in milliseconds; each further one is twice as long.
pub const BACKOFF_MS_MIN: u64 = 20;
/// The longest wait, in milliseconds.
pub const BACKOFF_MS_MAX: u64 = 1_000;

/// The attempts to link to one peer.
#[derive(Clone, Debug)]
pub struct Redial {
    wait_ms: u64,
    /// A link stood until just now.
    was_up: bool,
}

/// What an attempt that failed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The peer's process ended: what `Input::PeerGone` says.
    pub is_gone: bool,
    /// The next attempt is due then.
    pub wait_ms: u64,
}

impl Default for Redial {
    fn default() -> Redial {
        Redial { wait_ms: BACKOFF_MS_MIN, was_up: false }
    }
}

impl Redial {
    /// The link broke, which stood for so long. The next attempt is due in so many milliseconds. One that always breaks at once is
    /// no better than none.
    pub fn broke(&mut self, stood_ms: u64) -> u64 {
        self.was_up = true;
        if stood_ms >= BACKOFF_MS_MAX {
            self.wait_ms = BACKOFF_MS_MIN;
        }
        self.next_wait_ms()
    }

    /// There is no link. `refused`: nobody listens at the peer's address. Behind a link that stood until just now this tells a dead
    /// process from a broken wire; at other times it may be one that has not started yet.
    pub fn failed(&mut self, refused: bool) -> Failed {
        let is_gone = std::mem::take(&mut self.was_up) && refused;
        Failed { is_gone, wait_ms: self.next_wait_ms() }
    }

    fn next_wait_ms(&mut self) -> u64 {
        let wait_ms = self.wait_ms;
        self.wait_ms = (2 * wait_ms).min(BACKOFF_MS_MAX);
        wait_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_right_behind_a_link_is_gone() {
        let mut redial = Redial::default();
        assert!(!redial.failed(true).is_gone, "it may not have started yet");
        redial.broke(5_000);
        assert!(redial.failed(true).is_gone);
        assert!(!redial.failed(true).is_gone, "it was said");
        redial.broke(5_000);
        assert!(!redial.failed(false).is_gone, "the wire may be cut");
        assert!(!redial.failed(true).is_gone, "who knows what happened since");
    }

    #[test]
    fn waits_double_up_to_a_second_and_begin_anew_with_a_link() {
        let mut redial = Redial::default();
        let waits: Vec<u64> = (0..8).map(|_| redial.failed(false).wait_ms).collect();
        assert_eq!(waits, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        assert_eq!(redial.broke(BACKOFF_MS_MAX - 1), 1_000, "it did not stand");
        assert_eq!(redial.broke(BACKOFF_MS_MAX), 20);
        assert_eq!(redial.failed(false).wait_ms, 40);
    }
}
