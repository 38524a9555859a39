//! Local tasks: spawned into the queue, and never left behind.
//!
//! glommio forgets the tasks that still wait when their executor ends, together with the sockets and files they own.
//! So every task is wrapped: it notes its waker in a list of its executor, and when the executor ends, all are woken
//! once more and drop what they were doing. Writes to the log are exempt; the executor waits for them instead.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_channel::oneshot;
use pin_project_lite::pin_project;

/// How long an ending executor waits for its tasks to let go. Only a log write on a disk that hangs takes so long.
const END_WAIT_MAX: Duration = Duration::from_secs(10);

thread_local! {
    static TASKS: Tasks = const { Tasks::new() };
}

/// The tasks of one executor that have not finished.
struct Tasks {
    slots: RefCell<Vec<Slot>>,
    vacant: RefCell<Vec<usize>>,
    uncancelled: Cell<usize>,
    ending: Cell<bool>,
    /// Whom to wake when the last task finishes.
    ended: RefCell<Option<Waker>>,
}

struct Slot {
    /// Counts the tasks that have lived here, so that a stale handle cancels nobody else.
    generation: u64,
    waker: Option<Waker>,
    cancelled: bool,
    occupied: bool,
}

impl Tasks {
    const fn new() -> Self {
        Tasks {
            slots: RefCell::new(Vec::new()),
            vacant: RefCell::new(Vec::new()),
            uncancelled: Cell::new(0),
            ending: Cell::new(false),
            ended: RefCell::new(None),
        }
    }

    fn occupy(&self) -> TaskHandle {
        let mut slots = self.slots.borrow_mut();
        let index = self.vacant.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot { generation: 0, waker: None, cancelled: false, occupied: false });
            slots.len() - 1
        });
        let slot = &mut slots[index];
        slot.generation += 1;
        slot.cancelled = false;
        slot.occupied = true;
        TaskHandle { index, generation: slot.generation }
    }

    fn vacate(&self, handle: TaskHandle) {
        // The waker is dropped after the borrow: dropping one may free another task.
        let waker = {
            let slot = &mut self.slots.borrow_mut()[handle.index];
            slot.occupied = false;
            slot.waker.take()
        };
        drop(waker);
        self.vacant.borrow_mut().push(handle.index);
        self.wake_if_ended();
    }

    /// Whether the task should give up; remembers its waker otherwise.
    fn is_cancelled(&self, handle: TaskHandle, context: &Context<'_>) -> bool {
        if self.ending.get() {
            return true;
        }
        let slot = &mut self.slots.borrow_mut()[handle.index];
        if slot.waker.is_none() {
            slot.waker = Some(context.waker().clone());
        }
        slot.cancelled
    }

    fn is_empty(&self) -> bool {
        self.uncancelled.get() == 0 && self.slots.borrow().len() == self.vacant.borrow().len()
    }

    fn wake_if_ended(&self) {
        if self.ending.get()
            && self.is_empty()
            && let Some(waker) = self.ended.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

/// Names a spawned task. Dropping the handle lets the task run on.
#[derive(Clone, Copy, Debug)]
pub struct TaskHandle {
    index: usize,
    generation: u64,
}

impl TaskHandle {
    /// Drops the task's future at the task's next turn. Does nothing if the task has finished. Only on the task's own
    /// executor.
    pub fn cancel(self) {
        let waker = TASKS.with(|tasks| {
            let mut slots = tasks.slots.borrow_mut();
            let slot = slots.get_mut(self.index)?;
            if slot.generation != self.generation || !slot.occupied {
                return None;
            }
            slot.cancelled = true;
            slot.waker.clone()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

pin_project! {
    struct Task<F> {
        handle: TaskHandle,
        // None once finished or cancelled, so that what it owns is dropped at once and not when the task is freed.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Task<F> {
        fn drop(this: Pin<&mut Self>) {
            let handle = this.handle;
            this.project().future.set(None);
            // Gone when the thread is being torn down after a panic: then nobody counts any more.
            let _ = TASKS.try_with(|tasks| tasks.vacate(handle));
        }
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let handle = *this.handle;
        let cancelled = TASKS.with(|tasks| tasks.is_cancelled(handle, context));
        let done = match this.future.as_mut().as_pin_mut() {
            Some(future) if !cancelled => future.poll(context).is_ready(),
            _ => true,
        };
        if done {
            this.future.set(None);
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

pub(super) fn queue(future: impl Future<Output = ()> + 'static) {
    let queue = glommio::executor().current_task_queue();
    glommio::spawn_local_into(future, queue).expect("the queue of the running task exists").detach();
}

/// Queues a task on this executor, behind those that are ready now. It runs until it finishes, until its handle
/// cancels it or until the executor ends, whichever is first. Panics outside an executor.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> TaskHandle {
    let handle = TASKS.with(Tasks::occupy);
    queue(Task { handle, future: Some(future) });
    handle
}

/// As [`spawn`], for a task that must finish: neither a handle nor the executor's end cancels it. The executor's end
/// waits for it.
pub fn spawn_uncancelled(future: impl Future<Output = ()> + 'static) {
    struct Uncancelled;
    impl Drop for Uncancelled {
        fn drop(&mut self) {
            let _ = TASKS.try_with(|tasks| {
                tasks.uncancelled.set(tasks.uncancelled.get() - 1);
                tasks.wake_if_ended();
            });
        }
    }
    TASKS.with(|tasks| tasks.uncancelled.set(tasks.uncancelled.get() + 1));
    let counted = Uncancelled;
    queue(async move {
        future.await;
        drop(counted);
    });
}

/// Runs `work` on this executor's thread for blocking calls, one call at a time. The executor goes on meanwhile. A
/// panic in `work` is an error. Dropping the future does not stop `work`, and the executor's end waits for it.
pub async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> io::Result<R> {
    let (sender, result) = oneshot::channel();
    // glommio's thread panics if its executor ends before the call has returned.
    spawn_uncancelled(async move {
        let returned = glommio::executor().spawn_blocking(move || catch_unwind(AssertUnwindSafe(work))).await;
        // Nobody may be waiting any more.
        let _ = sender.send(returned);
    });
    match result.await {
        Ok(Ok(returned)) => Ok(returned),
        Ok(Err(_)) | Err(oneshot::Canceled) => Err(io::Error::other("a blocking call panicked")),
    }
}

/// Lets every other ready task run first. Not for waiting: a task that wakes itself in a loop keeps a core busy.
pub async fn yield_now() {
    futures_lite::future::yield_now().await;
}

/// Whether this task has had the executor for about the length of the preemption timer, or input waits: long loops
/// yield then.
pub fn need_preempt() -> bool {
    glommio::executor().need_preempt()
}

/// Drops all tasks of this executor but those that may not be cancelled, and waits for these.
pub(super) async fn end_all(executor: &str) {
    let wakers: Vec<Waker> = TASKS.with(|tasks| {
        tasks.ending.set(true);
        tasks.slots.borrow().iter().filter_map(|slot| slot.waker.clone()).collect()
    });
    wakers.into_iter().for_each(Waker::wake);
    let all_ended = poll_fn(|context| {
        TASKS.with(|tasks| {
            if tasks.is_empty() {
                return Poll::Ready(true);
            }
            *tasks.ended.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
    });
    let timed_out = async {
        super::sleep(END_WAIT_MAX).await;
        false
    };
    if !futures_lite::future::or(all_ended, timed_out).await {
        tracing::error!(executor, "log writes still hang; ending without them");
    }
}
