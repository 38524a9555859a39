//! `drey start --join`: a new node asks the cluster for a place before it starts.

use std::net::SocketAddr;
use std::time::Duration;

use drey_client::proto::JoinRequest;
use drey_client::{Client, Code};
use drey_io::{DataDir, Joined, Member, look_into};

use crate::cli::{Exit, StartArgs};

/// How long a new node looks for a member that answers: the cluster may be starting, too.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Asks for a place, if the data directory is empty. None: the node has joined before.
pub(super) fn join(args: &StartArgs) -> Result<Option<Joined>, (String, Exit)> {
    let incarnation = match look_into(&args.data_dir).map_err(|error| (error.to_string(), Exit::Refused))? {
        DataDir::Empty(incarnation) => incarnation,
        DataDir::Joined => return Ok(None),
        DataDir::Founded => {
            let directory = args.data_dir.display();
            let why = format!(
                "{directory} holds a node that founded a cluster of its own: --join is for an empty directory. To join \
                 another cluster, export what is worth keeping, and start with a new --data-dir"
            );
            return Err((why, Exit::Refused));
        }
    };
    let usage = |why: &str| (why.to_owned(), Exit::Usage);
    let name = args.name.clone().ok_or_else(|| usage("--join needs a name that no member has: say it with --name"))?;
    let address = args.advertise.clone().unwrap_or_else(|| args.listen.clone());
    let lacks_address = |address: &SocketAddr| address.ip().is_unspecified() || address.port() == 0;
    if address.parse().is_ok_and(|address| lacks_address(&address)) {
        return Err(usage(&format!("nobody can reach {name} at {address}: say with --advertise where they can")));
    }
    let request = JoinRequest { name, address, incarnation, cluster: String::new() };
    let seeds = args.join.iter().map(|seed| seed.trim().to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (format!("cannot ask for a place: {error}"), Exit::Refused))?;
    let answer = runtime.block_on(async {
        let client = Client::builder(seeds).timeout(TIMEOUT).discover(false).sessions(false).connect()?;
        client.join(request).await
    });
    let answer = answer.map_err(|error| {
        let exit = match error.code {
            Code::InvalidArgument => Exit::Usage,
            code => code.into(),
        };
        (format!("cannot join by way of {}: {}", args.join.join(","), error.message), exit)
    })?;
    let member =
        |member: drey_client::proto::Member| Member { id: member.id, name: member.name, address: member.address };
    Ok(Some(Joined {
        cluster: answer.cluster,
        epoch: answer.epoch,
        groups: answer.groups,
        node: answer.id,
        members: answer.members.into_iter().map(member).collect(),
    }))
}
