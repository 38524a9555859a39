//! One run: connect, preload, warm up, measure, drain, sum up.

pub(crate) mod args;
mod client;
mod pace;
mod record;
pub(crate) mod summary;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::args::LoadArgs;
use self::client::{Client, Plan, Shared, Values};
use self::pace::Pace;
use self::record::Measured;
use self::summary::Summary;
use crate::error::Error;
use crate::grpc::Link;
use crate::machine;
use crate::target::endpoints_in_use;

/// How long operations may take to end after the last was started. What then hangs is cut off and counted as such.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How many clients put the keys before a run, at least.
const PRELOAD_CLIENTS_MIN: usize = 256;

/// Between two looks at the sockets, so many tasks may run. With more of them a turn has more to send at once.
const TASKS_PER_TURN: u32 = 256;

/// Makes one run, on the calling thread, and says what it found.
///
/// It brings its own runtime, so it must not be called from within one of tokio's; a plain thread is the place.
pub fn run(args: LoadArgs) -> Result<Summary, Error> {
    runtime()?.block_on(run_on_this_thread(&args))
}

/// Puts all keys that a run with these options would use, and makes no run.
pub(crate) fn preload(args: &LoadArgs) -> Result<(), Error> {
    runtime()?.block_on(async {
        args.check()?;
        preload_through(args, &connect(args).await?).await
    })
}

pub(crate) fn runtime() -> Result<Runtime, Error> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().event_interval(TASKS_PER_TURN).build();
    runtime.map_err(|source| Error::io("starting the runtime", source))
}

async fn run_on_this_thread(args: &LoadArgs) -> Result<Summary, Error> {
    let keys = args.check()?;
    let links = connect(args).await?;
    if args.preload {
        preload_through(args, &links).await?;
    }
    let plan = Plan::Mixed { puts_percent: args.puts, keys };
    let values = Values::new(args.value_size, args.seed);
    let start = Instant::now();
    let pace = args.rate.map_or_else(|| Pace::closed(None), |rate| Pace::open(start, rate));
    let shared = Shared::new(args.target, &args.bucket, pace, plan, values, args.clients);
    let clients = clients(&shared, args.clients, args.seed, &links).await;
    let measurement = measure(args, &shared, start, clients).await?;
    Ok(summarize(args, &links, measurement))
}

/// Makes the connections, spread over the endpoints in turn.
async fn connect(args: &LoadArgs) -> Result<Vec<Link>, Error> {
    let endpoints = endpoints_in_use(args.target, args.to, &args.bucket, &args.endpoints).await?;
    // What is not used with `--to leader` still counts: the default is the same number of connections either way.
    let count = args.connection_count(args.endpoints.len());
    let mut links = Vec::with_capacity(count);
    for endpoint in endpoints.iter().cycle().take(count) {
        let link = Link::connect(endpoint).await;
        links.push(link.map_err(|source| Error::Connect { endpoint: endpoint.clone(), source })?);
    }
    Ok(links)
}

/// The clients, spread over the connections in turn.
async fn clients(shared: &Arc<Shared>, count: usize, seed: u64, links: &[Link]) -> Vec<Client> {
    let mut clients = Vec::with_capacity(count);
    for (number, link) in (0..count).zip(links.iter().cycle()) {
        clients.push(Client::new(number, seed, shared.clone(), link.clone()).await);
    }
    clients
}

fn start_all(clients: Vec<Client>) -> JoinSet<()> {
    clients.into_iter().map(Client::run).collect()
}

async fn preload_through(args: &LoadArgs, links: &[Link]) -> Result<(), Error> {
    let clients = args.clients.max(PRELOAD_CLIENTS_MIN);
    let (pace, values) = (Pace::closed(Some(args.key_count)), Values::new(args.value_size, args.seed));
    let shared = Shared::new(args.target, &args.bucket, pace, Plan::PutEach, values, clients);
    shared.recorder().open_window(Instant::now());
    all_ended(&mut start_all(self::clients(&shared, clients, args.seed, links).await)).await;
    let measured = shared.recorder().measured(Instant::now());
    let failed = args.key_count - measured.operations;
    if failed > 0 {
        let errors = format!("{:?}", measured.errors);
        return Err(Error::Preload { failed, keys: args.key_count, errors });
    }
    Ok(())
}

/// CPU times at one moment.
struct Cpu {
    client: Duration,
    servers: Duration,
    machine: Duration,
}

impl Cpu {
    fn now(args: &LoadArgs) -> Result<Self, Error> {
        let unreadable = |source| Error::io("reading CPU times from /proc (are the --server-pids alive?)", source);
        Ok(Self {
            servers: machine::processes_cpu(&args.server_pids).map_err(unreadable)?,
            machine: machine::machine_cpu().map_err(unreadable)?,
            client: machine::thread_cpu(),
        })
    }
}

struct Measurement {
    measured: Measured,
    before: Cpu,
    after: Cpu,
    server_rss_bytes: u64,
}

/// Lets the clients run through warm-up, measurement and drain.
async fn measure(
    args: &LoadArgs,
    shared: &Arc<Shared>,
    start: Instant,
    clients: Vec<Client>,
) -> Result<Measurement, Error> {
    let dispatcher = tokio::spawn({
        let shared = shared.clone();
        async move { shared.pace.dispatch().await }
    });
    let mut clients = start_all(clients);
    let opened = if args.warmup.is_zero() {
        // The clients have not run yet, and the first operation of an open loop was due at the start.
        start
    } else {
        sleep(args.warmup).await;
        Instant::now()
    };
    let before = Cpu::now(args)?;
    shared.recorder().open_window(opened);
    if let Some(operations) = args.operations {
        shared.pace.limit_to(operations);
    }
    // Ends early when the operations asked for are done.
    let _ = timeout(args.duration(), all_ended(&mut clients)).await;
    let end = Instant::now();
    shared.recorder().close_window(end);
    let after = Cpu::now(args)?;
    let server_rss_bytes = machine::processes_rss_bytes(&args.server_pids)
        .map_err(|source| Error::io("reading memory sizes from /proc", source))?;

    shared.pace.stop();
    shared.recorder().missed(shared.pace.missed_before(end), end);
    let _ = timeout(DRAIN_TIMEOUT, all_ended(&mut clients)).await;
    clients.abort_all();
    dispatcher.abort();
    let mut recorder = shared.recorder();
    recorder.cut_off(Instant::now());
    Ok(Measurement { measured: recorder.measured(end), before, after, server_rss_bytes })
}

/// Waits for all clients; a panic in one is a panic here.
async fn all_ended(clients: &mut JoinSet<()>) {
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

fn summarize(args: &LoadArgs, links: &[Link], measurement: Measurement) -> Summary {
    let Measurement { measured, before, after, server_rss_bytes } = measurement;
    let per_operation = |before: Duration, after: Duration| {
        after.saturating_sub(before).as_secs_f64() * 1e6 / measured.operations.max(1) as f64
    };
    let has_servers = !args.server_pids.is_empty();
    let elapsed_s = measured.elapsed.as_secs_f64();
    Summary {
        target: args.target,
        to: args.to,
        endpoints: args.endpoints.len(),
        clients: args.clients,
        connections: links.len(),
        value_size: args.value_size,
        key_count: args.key_count,
        puts_percent: args.puts,
        keys: args.keys.to_string(),
        rate: args.rate,
        seed: args.seed,
        elapsed_s,
        operations: measured.operations,
        ops_per_second: measured.operations as f64 / elapsed_s.max(f64::MIN_POSITIVE),
        latency: measured.latency,
        puts: measured.puts,
        gets: measured.gets,
        not_found: measured.not_found,
        missed: measured.missed,
        errors: measured.errors,
        client_cpu_us_per_op: per_operation(before.client, after.client),
        server_cpu_us_per_op: has_servers.then(|| per_operation(before.servers, after.servers)),
        machine_cpu_us_per_op: per_operation(before.machine, after.machine),
        server_rss_bytes: has_servers.then_some(server_rss_bytes),
    }
}
