//! When the next operation starts: in a closed loop when a client is free, in an open loop when its time has come.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

/// Permission to start one operation.
pub(super) struct Ticket {
    /// How many were given before.
    pub(super) number: u64,
    /// When the operation is due; latency counts from here.
    pub(super) due: Instant,
}

/// Gives tickets to the clients of one phase.
pub(super) struct Pace {
    next: AtomicU64,
    limit: AtomicU64,
    stopped: AtomicBool,
    schedule: Option<Schedule>,
}

/// The times at which an open loop's operations are due.
struct Schedule {
    start: Instant,
    per_second: f64,
    /// One permit for each ticket that is due and not yet taken.
    due: Semaphore,
}

impl Schedule {
    fn due_at(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.per_second)
    }

    /// How many tickets are due at `now`, the first at the start.
    fn count_at(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.start).as_secs_f64() * self.per_second) as u64 + 1
    }
}

impl Pace {
    /// A closed loop of so many operations, or without end.
    pub(super) fn closed(limit: Option<u64>) -> Self {
        Self {
            next: AtomicU64::new(0),
            limit: AtomicU64::new(limit.unwrap_or(u64::MAX)),
            stopped: AtomicBool::new(false),
            schedule: None,
        }
    }

    /// An open loop without end, whose first operation is due at `start`.
    pub(super) fn open(start: Instant, per_second: f64) -> Self {
        let schedule = Schedule { start, per_second, due: Semaphore::new(0) };
        Self { schedule: Some(schedule), ..Self::closed(None) }
    }

    /// The next ticket, when there is one to be had; `None` when there will be no more.
    pub(super) async fn ticket(&self) -> Option<Ticket> {
        if let Some(schedule) = &self.schedule {
            schedule.due.acquire().await.ok()?.forget();
        }
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.limit.load(Ordering::Relaxed) {
            self.stop();
            return None;
        }
        Some(Ticket {
            number,
            due: self.schedule.as_ref().map_or_else(Instant::now, |schedule| schedule.due_at(number)),
        })
    }

    /// So many more tickets from now on, and then no more.
    pub(super) fn limit_to(&self, more: u64) {
        self.limit.store(self.next.load(Ordering::Relaxed).saturating_add(more), Ordering::Relaxed);
    }

    /// No more tickets.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(schedule) = &self.schedule {
            schedule.due.close();
        }
    }

    /// When the operations were due that no client has been free to start before `end`.
    pub(super) fn missed_before(&self, end: Instant) -> impl Iterator<Item = Instant> {
        let taken = self.next.load(Ordering::Relaxed);
        let limit = self.limit.load(Ordering::Relaxed);
        let schedule = self.schedule.as_ref();
        let due = schedule.map_or(0, |schedule| schedule.count_at(end).min(limit));
        (taken..due).filter_map(move |number| Some(schedule?.due_at(number)))
    }

    /// Hands out an open loop's tickets as they become due, until stopped.
    ///
    /// The runtime's own timers are rounded to milliseconds, which would add as much to the latency of each operation.
    pub(super) async fn dispatch(&self) -> io::Result<()> {
        let Some(schedule) = &self.schedule else { return Ok(()) };
        let timer = Timer::new()?;
        let mut handed_out = 0;
        while !schedule.due.is_closed() {
            let due = schedule.count_at(Instant::now());
            // A stall of minutes at a high rate could otherwise add more permits than a semaphore has.
            let more = (due - handed_out).min((Semaphore::MAX_PERMITS - schedule.due.available_permits()) as u64);
            schedule.due.add_permits(more as usize);
            handed_out += more;
            timer.sleep_until(schedule.due_at(handed_out)).await?;
        }
        Ok(())
    }
}

/// A timer of the operating system, exact to some microseconds.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    #[expect(
        deprecated,
        reason = "its successor is unsafe, on account of types that do not own one descriptor; OwnedFd does"
    )]
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(AsyncFd::new(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    async fn sleep_until(&self, moment: Instant) -> io::Result<()> {
        let wait = moment.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            // A loop that is behind its schedule still lets the clients run.
            tokio::task::yield_now().await;
            return Ok(());
        }
        let value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        rustix::time::timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_loop_gives_its_limit_and_no_more() {
        let pace = Pace::closed(Some(2));
        assert_eq!(pace.ticket().await.unwrap().number, 0);
        assert_eq!(pace.ticket().await.unwrap().number, 1);
        assert!(pace.ticket().await.is_none());
        assert_eq!(pace.missed_before(Instant::now()).count(), 0);
    }

    #[tokio::test]
    async fn a_limit_set_later_counts_from_there() {
        let pace = Pace::closed(None);
        for _ in 0..5 {
            pace.ticket().await.unwrap();
        }
        pace.limit_to(1);
        assert_eq!(pace.ticket().await.unwrap().number, 5);
        assert!(pace.ticket().await.is_none());
    }

    #[tokio::test]
    async fn an_open_loop_keeps_its_schedule_and_knows_what_it_missed() {
        let start = Instant::now();
        let pace = Pace::open(start, 2_000.0);
        let take = async {
            for number in 0..20 {
                let ticket = pace.ticket().await.unwrap();
                assert_eq!(ticket.number, number);
                assert_eq!(ticket.due, start + Duration::from_micros(500 * number));
                assert!(Instant::now() >= ticket.due, "a ticket came before its time");
            }
            pace.stop();
            assert!(pace.ticket().await.is_none());
        };
        let (dispatched, ()) = tokio::join!(pace.dispatch(), take);
        dispatched.unwrap();
        // Tickets 0 to 19 were taken; 20 to 24 were due by 12.2 ms.
        let missed: Vec<Instant> = pace.missed_before(start + Duration::from_micros(12_200)).collect();
        assert_eq!(missed.len(), 5);
        assert_eq!(missed[0], start + Duration::from_millis(10));
    }
}
