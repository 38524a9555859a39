//! One thread per process that wakes every executor at a steady pace, so that none sleeps for long on work that is
//! ready.
//!
//! glommio 0.9.0 can park with runnable tasks (see the folder's first page). Nothing inside the executor helps then:
//! its tasks and timers sleep with it. A wake from another thread does, because it goes through a descriptor that the
//! executor arms before it parks. So each executor keeps a heartbeat task that never finishes, and this thread wakes
//! it, unconditionally: a poke that is left out because the last one is "still pending" is the one that would have
//! been needed.
//!
//! An executor that serves no poke for [`UNSERVED_MAX`] of them is lost (a task blocks or spins, or the kernel does
//! not return). The process is then aborted, with a message: half a node, which neither serves nor lets its peers
//! take over, is worse than none. Hence nothing may block an executor for seconds: such work belongs on
//! [`super::blocking`] or a thread.

use std::{
    cell::Cell,
    future::poll_fn,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    thread,
    time::{Duration, Instant},
};

/// How long a busy executor can sleep on ready work. A poke of a sleeping executor costs about 75 us of CPU, half of
/// it on either thread (a virtual machine with 2 cores, otherwise idle). As parts of a core, for 1 and for 2
/// executors that do nothing: with a poke every 5 ms 1.3 % and 3.4 %, every 10 ms 1.0 % and 2.0 %, every 20 ms 0.6 %
/// and 1.4 %, every 40 ms 0.4 % and 0.8 %.
const PERIOD: Duration = Duration::from_millis(5);

/// How long a calm executor can. An idle node is to use less than 2 % of a core for everything, and ticks its groups
/// with it.
const CALM_PERIOD: Duration = Duration::from_millis(40);

/// An executor is calm while it runs fewer tasks than this in a millisecond. One that ticks and answers now and then
/// is.
const CALM_TASKS_PER_MS: u64 = 1;

/// For so many pokes in a row, that is.
const CALM_AFTER: u32 = 8;

/// Unserved pokes after which the process is aborted: 5 s. Each holds a reference to the heartbeat's task, of which
/// there may be 32,767.
const UNSERVED_MAX: u32 = 1_000;

static WATCHDOG: Watchdog =
    Watchdog { watched: Mutex::new(Watched { hearts: Vec::new(), running: false }), changed: Condvar::new() };

struct Watchdog {
    watched: Mutex<Watched>,
    changed: Condvar,
}

struct Watched {
    hearts: Vec<Arc<Heart>>,
    running: bool,
}

/// What an executor and the watchdog's thread share.
struct Heart {
    executor: String,
    /// The heartbeat task's waker, once it has run.
    waker: Mutex<Option<Waker>>,
    unserved: AtomicU32,
    calm: AtomicBool,
    /// When the oldest unserved poke was sent, in microseconds since `started`.
    poked_at_us: AtomicU64,
    /// The longest that a poke had to wait, since it was last taken.
    stall_max_us: AtomicU64,
    started: Instant,
}

impl Heart {
    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn poke(&self) {
        let waker = lock(&self.waker);
        let Some(waker) = waker.as_ref() else { return };
        let unserved = self.unserved.fetch_add(1, Ordering::AcqRel);
        if unserved == 0 {
            self.poked_at_us.store(self.now_us(), Ordering::Release);
        }
        if unserved >= UNSERVED_MAX {
            abort(&self.executor);
        }
        waker.wake_by_ref();
    }

    /// Runs on the executor, as the heartbeat's turn.
    fn beat(&self) {
        if self.unserved.swap(0, Ordering::AcqRel) > 0 {
            let waited_us = self.now_us().saturating_sub(self.poked_at_us.load(Ordering::Acquire));
            self.stall_max_us.fetch_max(waited_us, Ordering::Relaxed);
        }
    }
}

fn abort(executor: &str) -> ! {
    let message = format!(
        "the executor {executor} has not run for {} s: a task blocks or spins on it, or the kernel holds it; aborting, \
         so that the other members of the cluster take over",
        (PERIOD * UNSERVED_MAX).as_secs()
    );
    tracing::error!("{message}");
    // The log may not reach anybody any more.
    eprintln!("drey: {message}");
    std::process::abort();
}

/// A panic while the lock was held leaves a list that is still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps an executor watched until it is dropped. Belongs outside the executor's future, so that a panic drops it too.
pub(super) struct Watch {
    heart: Arc<Heart>,
}

thread_local! {
    static HEART: Cell<Option<Arc<Heart>>> = const { Cell::new(None) };
}

impl Watch {
    /// Starts the watchdog's thread if this is the first executor.
    pub(super) fn new(executor: &str) -> std::io::Result<Watch> {
        let heart = Arc::new(Heart {
            executor: executor.to_owned(),
            waker: Mutex::new(None),
            unserved: AtomicU32::new(0),
            calm: AtomicBool::new(false),
            poked_at_us: AtomicU64::new(0),
            stall_max_us: AtomicU64::new(0),
            started: Instant::now(),
        });
        let mut watched = lock(&WATCHDOG.watched);
        if !watched.running {
            thread::Builder::new().name("drey-watchdog".to_owned()).spawn(watch)?;
            watched.running = true;
        }
        watched.hearts.push(Arc::clone(&heart));
        WATCHDOG.changed.notify_all();
        Ok(Watch { heart })
    }

    /// Has the pokes go to this task until the heartbeat's first turn: to the executor's first task in its first
    /// turn, so that there is no time without.
    pub(super) fn adopt(&self, waker: &Waker) {
        *lock(&self.heart.waker) = Some(waker.clone());
        HEART.set(Some(Arc::clone(&self.heart)));
    }

    /// The heartbeat: never finishes. It must be the first task that the executor's first task queues.
    pub(super) fn heartbeat(&self) -> impl Future<Output = ()> + 'static {
        let heart = Arc::clone(&self.heart);
        let mut calm_beats = 0;
        let mut beaten_us = heart.now_us();
        let mut first = true;
        poll_fn(move |context| {
            if std::mem::take(&mut first) {
                let before = lock(&heart.waker).replace(context.waker().clone());
                drop(before);
            }
            heart.beat();
            let since_ms = (heart.now_us() - std::mem::replace(&mut beaten_us, heart.now_us())) / 1_000;
            // Reading the statistics resets them: this counts what ran since the last beat.
            let tasks = glommio::executor().executor_stats().tasks_executed();
            calm_beats = if tasks <= since_ms * CALM_TASKS_PER_MS { calm_beats + 1 } else { 0 };
            heart.calm.store(calm_beats >= CALM_AFTER, Ordering::Relaxed);
            Poll::Pending
        })
    }

    /// Ends the pokes. Called in the last turn of the executor's first task: while the executor runs, so that the
    /// waker is dropped where its task lives, and when it will not park again.
    pub(super) fn end(&self) {
        let mut watched = lock(&WATCHDOG.watched);
        watched.hearts.retain(|heart| !Arc::ptr_eq(heart, &self.heart));
        let waker = lock(&self.heart.waker).take();
        drop(waker);
        HEART.set(None);
        WATCHDOG.changed.notify_all();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

/// The longest that this executor let a wake from outside wait since the last call: how late everything on it was at
/// worst. Zero outside an executor.
pub fn take_stall_max() -> Duration {
    let heart = HEART.take();
    let stall = heart.as_ref().map_or(0, |heart| heart.stall_max_us.swap(0, Ordering::Relaxed));
    HEART.set(heart);
    Duration::from_micros(stall)
}

/// The watchdog's thread.
fn watch() {
    let mut watched = lock(&WATCHDOG.watched);
    let mut calm_since = Instant::now();
    while !watched.hearts.is_empty() {
        // The calm ones get their turn together: waking this thread costs as much as waking an executor.
        let calm_turn = calm_since.elapsed() >= CALM_PERIOD;
        if calm_turn {
            calm_since = Instant::now();
        }
        let mut all_calm = true;
        for heart in &watched.hearts {
            // One that does not answer is not calm, whatever it said last.
            let calm = heart.calm.load(Ordering::Relaxed) && heart.unserved.load(Ordering::Relaxed) == 0;
            all_calm &= calm;
            if calm_turn || !calm {
                heart.poke();
            }
        }
        let wait = if all_calm { CALM_PERIOD.saturating_sub(calm_since.elapsed()) } else { PERIOD };
        watched = WATCHDOG.changed.wait_timeout(watched, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
    watched.running = false;
}
