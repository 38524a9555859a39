//! glommio's faults, provoked: each test brings one about, and sees that it does no harm.

use std::{
    cell::{Cell, RefCell},
    net::{SocketAddr, TcpStream as ClientStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    listener::{BoundListener, Connection},
    log_files::LogDirectory,
    mailbox::{Mailbox, mailbox},
};

/// How long anything may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

fn one<S, F, T>(config: &ExecutorConfig, body: S) -> Executors<T>
where
    S: FnOnce(ExecutorContext) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    start(config, vec![body]).unwrap()
}

/// Joins, but not for ever.
fn join<T: Send + 'static>(executors: Executors<T>) -> Vec<Result<T, ExecutorError>> {
    let (sender, joined) = mpsc::channel();
    thread::spawn(move || sender.send(executors.join()));
    joined.recv_timeout(PATIENCE).expect("the executor hangs")
}

#[test]
fn an_executor_that_parks_with_runnable_tasks_is_woken() {
    const RUN: Duration = Duration::from_secs(3);
    const WORK: Duration = Duration::from_micros(30);
    let mut config = ExecutorConfig::new("parks");
    // 25 times shorter than it ever is, so that it fires before the scheduler's first look time and again.
    config.preempt_timer = Duration::from_micros(200);
    let hogging = Arc::new(AtomicBool::new(true));
    let hogs: Vec<_> = (0..2 * crate::cpus::allowed().unwrap().len())
        .map(|_| {
            let hogging = Arc::clone(&hogging);
            thread::spawn(move || while hogging.load(Ordering::Relaxed) {})
        })
        .collect();
    let body = |_| async {
        let started = Instant::now();
        // Always runnable, and busy, so that the hogs take the core away at any point. Nothing outside the executor
        // wakes it but the watchdog.
        while started.elapsed() < RUN {
            let turn = Instant::now();
            while turn.elapsed() < WORK {}
            yield_now().await;
        }
    };
    // The fault catches any one of them in one such run of several, and then for ever: without the watchdog, most runs
    // of so many hang. How long a turn takes beside the hogs is no measure: that is up to the machine.
    let executors = start(&config, vec![body; 6]).unwrap();
    let ended = join(executors);
    hogging.store(false, Ordering::Relaxed);
    hogs.into_iter().for_each(|hog| hog.join().unwrap());
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
}

/// Deals connections to one executor.
fn listen() -> (crate::listener::Listener, SocketAddr, Mailbox<Connection>) {
    let bound = BoundListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = bound.address();
    let (sender, connections) = mailbox(1_024);
    let listener = bound.accept(10_000, move |connection| sender.send(connection).unwrap()).unwrap();
    (listener, address, connections)
}

/// What [`drop_sockets_during_syncs`] saw.
struct Writes {
    made: u64,
    unknown: u64,
}

/// Drops hundreds of sockets in one turn, several times, while tasks write and sync a log without a pause. Fails if
/// any write is lost.
fn drop_sockets_during_syncs(config: &ExecutorConfig) -> Writes {
    const SOCKETS: usize = 600;
    const ROUNDS: usize = 5;
    const WRITERS: usize = 32;
    raise_descriptor_limit();
    let directory = tempfile::tempdir().unwrap();
    let log = LogDirectory::open(directory.path(), (WRITERS * BLOCK) as u64, 0).unwrap();
    let (listener, address, mut connections) = listen();
    let (end_clients, end) = mpsc::channel();
    let (ended, clients_ended) = mpsc::channel();
    let executors = one(config, {
        let log = log.clone();
        move |_| async move {
            let segment = log.create("a.log", vec![]).await.unwrap();
            let acknowledged = Rc::new(RefCell::new([0_u64; WRITERS]));
            let stop = Rc::new(Cell::new(false));
            let (running, ended) = (Rc::new(Cell::new(WRITERS)), crate::notify::Notify::new());
            for writer in 0..WRITERS {
                let (segment, acknowledged) = (segment.clone(), Rc::clone(&acknowledged));
                let (stop, running, ended) = (Rc::clone(&stop), Rc::clone(&running), ended.clone());
                spawn(async move {
                    for number in 1_u64.. {
                        let fill = |block: &mut [u8]| block.fill(u8::try_from(number % 251).unwrap());
                        segment.write((writer * BLOCK) as u64, BLOCK, fill).await.unwrap();
                        acknowledged.borrow_mut()[writer] = number;
                        if stop.get() {
                            break;
                        }
                    }
                    running.set(running.get() - 1);
                    ended.notify();
                });
            }
            let made = || acknowledged.borrow().iter().sum::<u64>();
            for _ in 0..ROUNDS {
                let mut open = Vec::new();
                for _ in 0..SOCKETS {
                    let mut stream = connections.receive().await.unwrap().into_stream().unwrap();
                    // Leaves a read that waits, as on every idle connection.
                    assert_eq!(stream.sniff(1).await.unwrap(), [7]);
                    open.push(stream);
                }
                // The clients end their side while this turn lasts, so that each read is complete, unseen, when it is
                // cancelled: its number is free for others before the cancellation is sent.
                end_clients.send(()).unwrap();
                clients_ended.recv_timeout(PATIENCE).unwrap();
                let before = made();
                open.clear();
                while made() < before + 200 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            stop.set(true);
            while running.get() > 0 {
                ended.notified().await;
            }
            (*acknowledged.borrow(), unknown_outcomes())
        }
    });
    let client = thread::spawn(move || {
        for _ in 0..ROUNDS {
            let clients: Vec<ClientStream> = (0..SOCKETS).map(|_| ClientStream::connect(address).unwrap()).collect();
            for mut client in &clients {
                std::io::Write::write_all(&mut client, &[7]).unwrap();
            }
            end.recv_timeout(PATIENCE).unwrap();
            for client in &clients {
                client.shutdown(std::net::Shutdown::Write).unwrap();
            }
            ended.send(()).unwrap();
            for mut client in &clients {
                // Until the server drops it; with or without a reset.
                let _ = std::io::Read::read(&mut client, &mut [0]);
            }
        }
    });
    let (acknowledged, unknown) = join(executors).remove(0).unwrap();
    client.join().unwrap();
    drop(listener);
    let bytes = std::fs::read(log.path().join("a.log")).unwrap();
    for (block, number) in bytes.chunks(BLOCK).zip(acknowledged) {
        let expected = u8::try_from(number % 251).unwrap();
        assert!(block.iter().all(|&byte| byte == expected), "write {number} is not in the file");
    }
    Writes { made: acknowledged.iter().sum(), unknown }
}

/// The test needs two descriptors per connection, and some systems start with a thousand.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

#[test]
fn many_sockets_dropped_at_once_disturb_no_log_write() {
    let writes = drop_sockets_during_syncs(&ExecutorConfig::new("drops"));
    assert!(writes.made >= 1_000, "{}", writes.made);
    assert_eq!(writes.unknown, 0, "of {} writes", writes.made);
}

#[test]
fn writes_of_unknown_outcome_are_made_again() {
    let mut config = ExecutorConfig::new("unknown");
    // Too small for so many cancellations, which then hit other operations.
    config.ring_depth = Some(128);
    let provoked = (0..5).any(|_| drop_sockets_during_syncs(&config).unknown > 0);
    assert!(provoked, "the fault that this test is about was not provoked");
}

#[test]
fn tasks_that_wait_are_dropped_when_their_executor_ends() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let executors = one(&ExecutorConfig::new("ends"), {
        let dropped = Dropped(Arc::clone(&dropped));
        |_| async {
            spawn(async move {
                std::future::pending::<()>().await;
                drop(dropped);
            });
            yield_now().await;
        }
    });
    join(executors).remove(0).unwrap();
    assert!(dropped.load(Ordering::Relaxed));
}

#[test]
fn a_cancelled_task_is_dropped_and_a_stale_handle_cancels_nobody() {
    let executors = one(&ExecutorConfig::new("cancels"), |_| async {
        let (owned, weak) = {
            let owned = Rc::new(());
            let weak = Rc::downgrade(&owned);
            (owned, weak)
        };
        let first = spawn(async move {
            std::future::pending::<()>().await;
            drop(owned);
        });
        yield_now().await;
        assert!(weak.upgrade().is_some());
        first.cancel();
        while weak.upgrade().is_some() {
            yield_now().await;
        }
        // The second has the first one's place.
        let ran = Rc::new(Cell::new(false));
        spawn({
            let ran = Rc::clone(&ran);
            async move {
                sleep(Duration::from_millis(1)).await;
                ran.set(true);
            }
        });
        yield_now().await;
        first.cancel();
        sleep(Duration::from_millis(20)).await;
        ran.get()
    });
    assert!(join(executors).remove(0).unwrap());
}

#[test]
fn a_spawned_task_waits_for_its_turn() {
    let executors = one(&ExecutorConfig::new("queues"), |_| async {
        let ran = Rc::new(Cell::new(false));
        spawn({
            let ran = Rc::clone(&ran);
            async move { ran.set(true) }
        });
        let at_once = ran.get();
        yield_now().await;
        (at_once, ran.get())
    });
    assert_eq!(join(executors).remove(0).unwrap(), (false, true));
}

#[test]
fn a_panic_ends_its_executor_with_its_message() {
    let executors = one(&ExecutorConfig::new("panics"), |_| async {
        spawn(async { panic!("as the test wants") });
        std::future::pending::<()>().await;
    });
    let error = join(executors).remove(0).unwrap_err();
    assert_eq!(error.to_string(), "the executor panics-0 panicked: as the test wants");
}

#[test]
fn a_blocking_call_neither_stops_the_executor_nor_takes_it_down() {
    let executors = one(&ExecutorConfig::new("blocks"), |_| async {
        let (release, held) = mpsc::channel();
        let call = blocking(move || held.recv_timeout(PATIENCE).is_ok());
        spawn(async move {
            sleep(Duration::from_millis(1)).await;
            release.send(()).unwrap();
        });
        let released = call.await.unwrap();
        let panicked = blocking(|| panic!("as the test wants")).await.unwrap_err().to_string();
        (released, panicked, blocking(|| 3).await.unwrap())
    });
    assert_eq!(join(executors).remove(0).unwrap(), (true, "a blocking call panicked".to_owned(), 3));
}

#[test]
fn a_stall_is_measured() {
    const BLOCKED: Duration = Duration::from_millis(150);
    let executors = one(&ExecutorConfig::new("stalls"), |_| async {
        let started = Instant::now();
        let mut stall = Duration::ZERO;
        // The poke that will have to wait can itself be late, on a machine that does much else.
        while stall < BLOCKED - Duration::from_millis(50) && started.elapsed() < PATIENCE {
            sleep(Duration::from_millis(50)).await;
            take_stall_max();
            let blocked = Instant::now();
            while blocked.elapsed() < BLOCKED {}
            sleep(Duration::from_millis(50)).await;
            stall = take_stall_max();
        }
        stall
    });
    let stall = join(executors).remove(0).unwrap();
    assert!(stall >= Duration::from_millis(100), "{stall:?}");
}

#[test]
fn a_file_system_without_direct_io_is_written_through_the_page_cache() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [0; 3 * BLOCK]).unwrap();
    let executors = one(&ExecutorConfig::new("buffered"), {
        let path = path.clone();
        |_| async move {
            let file = AlignedFile::open_buffered(&path).await.unwrap();
            let buffer = file.fill(2 * BLOCK, |bytes| bytes.fill(5)).unwrap();
            file.write_synced(BLOCK as u64, &buffer).await.unwrap();
            file.is_direct()
        }
    });
    assert!(!join(executors).remove(0).unwrap());
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes[..BLOCK].iter().all(|&byte| byte == 0) && bytes[BLOCK..].iter().all(|&byte| byte == 5));
}

#[test]
fn an_empty_file_is_refused_before_it_misleads() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    let executors =
        one(
            &ExecutorConfig::new("empty"),
            |_| async move { AlignedFile::open(&path).await.map(drop).unwrap_err().kind() },
        );
    assert_eq!(join(executors).remove(0).unwrap(), std::io::ErrorKind::InvalidInput);
}
