//! Ends the node of this process when a signal asks for it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use drey_io::Handle;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How often what is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    node: Option<Handle>,
    /// Somebody waits who will look.
    waits: bool,
    asked: bool,
}

/// What signals find.
#[derive(Clone, Default)]
pub(super) struct Stopper(Arc<(Mutex<State>, Condvar)>);

impl Stopper {
    /// Listens to SIGINT and SIGTERM: the first one asks, the second one insists. Without a node to be asked the first one does.
    pub fn start() -> std::io::Result<Stopper> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let stopper = Stopper::default();
        let listening = stopper.clone();
        std::thread::Builder::new().name("drey-signals".into()).spawn(move || {
            for signal in signals.forever() {
                if listening.ask() {
                    std::process::exit(128 + signal);
                }
            }
        })?;
        Ok(stopper)
    }

    /// Asks. True: nobody was there to be asked, or has been asked before.
    fn ask(&self) -> bool {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = &state.node {
            node.begin_stop();
        }
        changed.notify_all();
        let is_heard = state.node.is_some() || state.waits;
        std::mem::replace(&mut state.asked, true) || !is_heard
    }

    /// The node has ended.
    pub fn has_ended(&self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).node = None;
    }

    /// From now on it is this node that stops.
    pub fn stops(&self, node: Handle) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.asked {
            node.begin_stop();
        }
        state.node = Some(node);
    }

    /// Waits until something is so. False: it was asked to stop before.
    pub fn wait_until(&self, mut is_so: impl FnMut() -> bool) -> bool {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waits = true;
        while !state.asked && !is_so() {
            (state, _) = changed.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
        }
        state.waits = false;
        !state.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_by_what_it_waits_for_and_by_being_asked_to_stop() {
        let stopper = Stopper::default();
        assert!(stopper.wait_until(|| true));
        let asking = stopper.clone();
        let asker = std::thread::spawn(move || {
            while !asking.0.0.lock().expect("it is whole").waits {
                std::thread::yield_now();
            }
            asking.ask()
        });
        assert!(!stopper.wait_until(|| false));
        assert!(!asker.join().expect("it asks"), "for the first time");
        assert!(stopper.ask(), "and then it insists");
        assert!(Stopper::default().ask(), "nobody is there");
    }
}
