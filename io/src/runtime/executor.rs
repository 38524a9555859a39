//! Starting executors, one thread each, and joining them.
//!
//! A thread first makes its executor and reports; what is to run is sent to it only when all have reported, so that a
//! failure leaves nothing half started. An executor can also be lost to glommio's parking fault before its first task
//! ever ran, where the watchdog cannot reach it yet; it is then given up, and another takes its place.

use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::Poll,
    thread,
    time::Duration,
};

use futures_channel::oneshot;

use super::{task, watchdog::Watch};
use crate::{cpus, probe};

/// How long a task may run before the executor looks at its sockets. Below 2 ms the parking fault becomes frequent.
pub(super) const PREEMPT_TIMER: Duration = Duration::from_millis(5);

/// Memory registered with io_uring for log writes, per executor; larger buffers come from the heap.
pub(super) const IO_MEMORY: usize = 64 << 10;

/// The least depth of a ring.
const RING_DEPTH_MIN: usize = 4_096;

/// The kernel's limit on the depth of a ring.
const RING_DEPTH_MAX: usize = 32_768;

/// Room in a ring for everything that is not a connection: files, timers, peers.
const OPERATIONS_MAX: usize = 1_024;

/// The most connections that one executor can be asked to admit.
const CONNECTIONS_MAX: usize = (RING_DEPTH_MAX - OPERATIONS_MAX) / 2;

/// How long an executor may take to run its first task before it is given up.
const FIRST_TURN_WAIT: Duration = Duration::from_secs(3);

/// How many executors in a row may be lost before their first task.
const LOST_MAX: usize = 4;

/// How long the last cancellations and closed files of an executor get to reach the kernel.
const SETTLE: Duration = Duration::from_millis(2);

/// Executors that live in this process.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The depth of rings that hold two operations (a read and a cancellation) for each of so many connections.
pub(super) fn ring_depth(connections_max: usize) -> usize {
    (2 * connections_max + OPERATIONS_MAX).next_power_of_two().clamp(RING_DEPTH_MIN, RING_DEPTH_MAX)
}

/// Whether executors are kept on a CPU each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pinning {
    /// Pins if this start fills more than half of the CPUs that the process may use, and all executors of the process
    /// fit onto them. Smaller nodes move freely: two of them on one machine would pin themselves to the same CPUs.
    #[default]
    Automatic,
    /// Leaves it to the scheduler.
    Never,
}

/// How to start executors.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// What the threads are called in tools and messages; `-` and the index are appended.
    pub name: String,
    /// See [`Pinning`].
    pub pinning: Pinning,
    /// The most connections that one executor will hold at a time, incoming and outgoing. The rings are sized by it.
    pub connections_max: usize,
    /// [`PREEMPT_TIMER`], but in tests of what it guards against.
    pub(super) preempt_timer: Duration,
    /// That of [`ring_depth`], but in tests of what it guards against.
    pub(super) ring_depth: Option<usize>,
}

impl ExecutorConfig {
    /// The defaults: automatic pinning, and 1,536 connections.
    pub fn new(name: impl Into<String>) -> Self {
        ExecutorConfig {
            name: name.into(),
            pinning: Pinning::default(),
            connections_max: (RING_DEPTH_MIN - OPERATIONS_MAX) / 2,
            preempt_timer: PREEMPT_TIMER,
            ring_depth: None,
        }
    }

    fn ring_depth(&self) -> usize {
        self.ring_depth.unwrap_or_else(|| ring_depth(self.connections_max))
    }
}

/// What an executor is told about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutorContext {
    /// Which of the executors started together this is, from 0.
    pub index: usize,
    /// How many were started together.
    pub count: usize,
    /// The CPU it is pinned to, if it is.
    pub cpu: Option<usize>,
}

/// Why executors could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// io_uring is not to be had.
    #[error(transparent)]
    IoUring(#[from] probe::ProbeError),
    /// The configuration asks for more than a ring holds.
    #[error("{0} connections per executor are more than {CONNECTIONS_MAX}: start more shards, or lower the limit")]
    TooManyConnections(usize),
    /// A thread could not be started.
    #[error("cannot start the thread {name}: {source}")]
    Thread {
        /// The thread's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// An executor could not be made.
    #[error("cannot make the executor {name}: {reason}")]
    Executor {
        /// The thread's name.
        name: String,
        /// What glommio said.
        reason: String,
    },
    /// An executor never ran its first task.
    #[error("the executor {0} does not run: the machine is overloaded, or the kernel holds it")]
    Stuck(String),
}

/// Why an executor ended without a result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecutorError {
    /// A task panicked.
    #[error("the executor {executor} panicked: {message}")]
    Panicked {
        /// The executor's thread.
        executor: String,
        /// The panic's message.
        message: String,
    },
    /// It was given up before it ran anything.
    #[error("the executor {0} was not started")]
    NotStarted(String),
}

/// Running executors. Dropping it lets them run on.
pub struct Executors<T> {
    running: Vec<Running<T>>,
}

struct Running<T> {
    executor: String,
    thread: thread::JoinHandle<()>,
    result: oneshot::Receiver<Result<T, ExecutorError>>,
}

impl<T> Executors<T> {
    /// Waits until all have ended, blocking the thread. In the order of their indexes.
    pub fn join(self) -> Vec<Result<T, ExecutorError>> {
        self.running.into_iter().map(|running| futures_lite::future::block_on(running.join())).collect()
    }

    /// Waits until all have ended, on any runtime. In the order of their indexes.
    pub async fn finished(self) -> Vec<Result<T, ExecutorError>> {
        let mut results = Vec::with_capacity(self.running.len());
        for running in self.running {
            results.push(running.join().await);
        }
        results
    }
}

impl<T> fmt::Debug for Executors<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.running.iter().map(|running| &running.executor)).finish()
    }
}

impl<T> Running<T> {
    async fn join(self) -> Result<T, ExecutorError> {
        let not_started = || ExecutorError::NotStarted(self.executor.clone());
        let result = self.result.await.unwrap_or_else(|_| Err(not_started()));
        // Sending the result was the last thing that the thread did, with its descriptors closed.
        let _ = self.thread.join();
        result
    }
}

/// What is sent to an executor for it to run.
type Body<S> = (S, ExecutorContext);

/// Starts one executor per element of `bodies`, on a thread each. Every one runs its body's future to the end; then
/// the tasks it spawned are dropped, and the thread ends. Returns once all run.
pub fn start<S, F, T>(config: &ExecutorConfig, bodies: Vec<S>) -> Result<Executors<T>, StartError>
where
    S: FnOnce(ExecutorContext) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    if config.connections_max > CONNECTIONS_MAX {
        return Err(StartError::TooManyConnections(config.connections_max));
    }
    probe::io_uring(config.ring_depth())?;
    let count = bodies.len();
    let cpus = choose_cpus(config.pinning, count, LIVE.load(Ordering::Relaxed), &cpus::allowed().unwrap_or_default());
    let mut started = Vec::with_capacity(count);
    for index in 0..count {
        let context = ExecutorContext { index, count, cpu: cpus.get(index).copied() };
        started.push((start_one(config, context)?, context));
    }
    let mut running = Vec::with_capacity(count);
    for (((one, go), context), body) in started.into_iter().zip(bodies) {
        // Cannot fail but by a panic of the thread, which its result will tell.
        let _ = go.send((body, context));
        running.push(one);
    }
    Ok(Executors { running })
}

/// The CPU of each executor, or none at all.
fn choose_cpus(pinning: Pinning, count: usize, live: usize, allowed: &[usize]) -> Vec<usize> {
    let fits = count + live <= allowed.len();
    let fills = 2 * count > allowed.len();
    match pinning {
        // From the last backwards: the first CPU tends to serve the interrupts.
        Pinning::Automatic if fits && fills => allowed[allowed.len() - count..].to_vec(),
        Pinning::Automatic | Pinning::Never => Vec::new(),
    }
}

type Started<S, T> = (Running<T>, oneshot::Sender<Body<S>>);

fn start_one<S, F, T>(config: &ExecutorConfig, context: ExecutorContext) -> Result<Started<S, T>, StartError>
where
    S: FnOnce(ExecutorContext) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let executor = format!("{}-{}", config.name, context.index);
    for _ in 0..LOST_MAX {
        let (report, reported) = mpsc::channel();
        let (go, body) = oneshot::channel();
        let (finish, result) = oneshot::channel();
        let thread = Thread { config: config.clone(), executor: executor.clone(), cpu: context.cpu };
        let thread = thread::Builder::new()
            .name(executor.clone())
            .spawn(move || {
                let result = thread.run(body, report);
                let _ = finish.send(result);
            })
            .map_err(|source| StartError::Thread { name: executor.clone(), source })?;
        match wait_for_first_turn(&reported) {
            Some(Ok(())) => return Ok((Running { executor, thread, result }, go)),
            Some(Err(reason)) => return Err(StartError::Executor { name: executor, reason }),
            None => tracing::warn!(executor, "gave up an executor that parked before its first task"),
        }
    }
    Err(StartError::Stuck(executor))
}

/// None if the executor was made and then did nothing.
fn wait_for_first_turn(reported: &mpsc::Receiver<Report>) -> Option<Result<(), String>> {
    match reported.recv_timeout(FIRST_TURN_WAIT) {
        Ok(Report::Failed(reason)) => Some(Err(reason)),
        Ok(Report::FirstTurn) => Some(Ok(())),
        Err(mpsc::RecvTimeoutError::Timeout) => None,
        Err(mpsc::RecvTimeoutError::Disconnected) => Some(Err("its thread panicked".to_owned())),
    }
}

enum Report {
    Failed(String),
    FirstTurn,
}

/// An executor's thread, before it runs.
struct Thread {
    config: ExecutorConfig,
    executor: String,
    cpu: Option<usize>,
}

impl Thread {
    fn run<S, F, T>(self, body: oneshot::Receiver<Body<S>>, report: mpsc::Sender<Report>) -> Result<T, ExecutorError>
    where
        S: FnOnce(ExecutorContext) -> F,
        F: Future<Output = T> + 'static,
    {
        let not_started = || ExecutorError::NotStarted(self.executor.clone());
        let (executor, watch) = match self.make() {
            Ok(made) => made,
            Err(reason) => {
                let _ = report.send(Report::Failed(reason));
                return Err(not_started());
            }
        };
        let _live = Live::new();
        let main = async {
            first_turn(&watch).await;
            let _ = report.send(Report::FirstTurn);
            drop(report);
            let Ok((body, context)) = body.await else { return Err(not_started()) };
            let output = body(context).await;
            task::end_all(&self.executor).await;
            super::sleep(SETTLE).await;
            watch.end();
            Ok(output)
        };
        catch_unwind(AssertUnwindSafe(|| executor.run(main))).unwrap_or_else(|panic| {
            Err(ExecutorError::Panicked { executor: self.executor.clone(), message: panic_message(panic.as_ref()) })
        })
    }

    fn make(&self) -> Result<(glommio::LocalExecutor, Watch), String> {
        let executor = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
            .name(&self.executor)
            .io_memory(IO_MEMORY)
            .ring_depth(self.config.ring_depth())
            .preempt_timer(self.config.preempt_timer)
            .make()
            .map_err(|error| error.to_string())?;
        // After the executor is made, so that its thread for blocking calls may run elsewhere.
        if let Some(cpu) = self.cpu
            && let Err(error) = cpus::pin(cpu)
        {
            tracing::warn!(executor = self.executor, cpu, %error, "cannot pin an executor; it moves freely");
        }
        let watch = Watch::new(&self.executor).map_err(|error| format!("cannot start the watchdog: {error}"))?;
        Ok((executor, watch))
    }
}

/// The first turn of the first task: from here on the watchdog reaches the executor.
async fn first_turn(watch: &Watch) {
    poll_fn(|context| {
        watch.adopt(context.waker());
        Poll::Ready(())
    })
    .await;
    task::queue(watch.heartbeat());
}

struct Live;

impl Live {
    fn new() -> Live {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Live
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.map(str::to_owned)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_taken_only_where_all_executors_fit_and_fill_most_of_them() {
        let four = [0, 2, 4, 6];
        assert_eq!(choose_cpus(Pinning::Automatic, 3, 0, &four), [2, 4, 6]);
        assert_eq!(choose_cpus(Pinning::Automatic, 3, 1, &four), [2, 4, 6]);
        assert!(choose_cpus(Pinning::Automatic, 3, 2, &four).is_empty(), "another node lives in this process");
        assert!(choose_cpus(Pinning::Automatic, 1, 0, &four).is_empty(), "a small node moves freely");
        assert!(choose_cpus(Pinning::Automatic, 5, 0, &four).is_empty());
        assert!(choose_cpus(Pinning::Never, 4, 0, &four).is_empty());
    }

    #[test]
    fn rings_hold_two_operations_per_connection() {
        assert_eq!(ring_depth(0), 4_096);
        assert_eq!(ring_depth(ExecutorConfig::new("x").connections_max), 4_096);
        assert_eq!(ring_depth(1_537), 8_192);
        assert_eq!(ring_depth(CONNECTIONS_MAX), 32_768);
    }
}
