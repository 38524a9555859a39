//! Clocks and timers. The clocks are read at the start of a turn and handed down as values; a timer only wakes a shard
//! that would otherwise sleep.

use std::{
    future::Future,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the process first read this clock. Never goes back; the same for all executors of a process.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch by the wall clock, which may jump either way.
    pub wall_ms: u64,
}

/// Reads both clocks (about 50 ns).
pub fn now() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Now {
        mono_ms: milliseconds(start.elapsed()),
        // A wall clock before 1970 is as good as none.
        wall_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds),
    }
}

/// A future that completes once `duration` has passed. Only inside an executor.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { timer: glommio::timer::Timer::new(duration) }
}

/// See [`sleep`].
#[derive(Debug)]
pub struct Sleep {
    timer: glommio::timer::Timer,
}

impl Sleep {
    /// Starts anew: completes `duration` from now. Keeps the waiting task.
    pub fn reset(&mut self, duration: Duration) {
        self.timer.reset(duration);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.timer).poll(context).map(|_| ())
    }
}
