//! `join`, `leave`, `remove` and `transfer`: the commands that change who the members are, and who leads.

use super::{Context, Exit, Failure};
use clap::Args;
use drey_client::proto::{
    JoinRequest, Member, RemoveRequest, RemoveResponse, StatusResponse, TransferLeaderRequest, member::Role,
};
use drey_client::{Client, Code};
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// How long a member may take to leave, or a leadership to move, before the command stops watching.
const WATCH_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Hand-overs are asked for again so often: a member that lags is passed over.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What `drey join` takes.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// The new node's name
    name: String,
    /// Where the others will reach it, as HOST:PORT
    address: String,
}

/// What `drey remove` takes.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The member's name
    name: String,
}

/// What `drey transfer` takes.
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// The member that is to lead
    name: String,
    /// Only this group
    #[arg(long, value_name = "GROUP")]
    group: Option<u32>,
}

#[derive(Serialize)]
struct MemberLine<'a> {
    id: u64,
    name: &'a str,
    state: &'static str,
}

pub(super) async fn join(context: &mut Context, args: &JoinArgs) -> Result<(), Failure> {
    let request = JoinRequest { name: args.name.clone(), address: args.address.clone(), ..JoinRequest::default() };
    let what = format!("cannot keep a place for {}", args.name);
    let answer = context.client.join(request).await;
    let answer = answer.map_err(|error| Failure::of_call(what, &error, |code| context.suggest_for(code)))?;
    if context.output.is_json() {
        context.output.json(&MemberLine { id: answer.id, name: &args.name, state: "expected" })?;
        return Ok(());
    }
    let seed = answer.members.iter().find(|member| member.id != answer.id).map_or("", |member| &member.address);
    context.output.line(&format!("{} has a place, as member {}; start it with", args.name, answer.id))?;
    context.output.line(&format!("  drey start --name {} --listen {} --join {seed}", args.name, args.address))?;
    Ok(())
}

pub(super) async fn leave(context: &mut Context) -> Result<(), Failure> {
    let what = "this node cannot leave";
    let status = status(context, what).await?;
    let own = status.members.iter().find(|member| member.id == status.node);
    let name = own.map_or(String::new(), |own| own.name.clone());
    let left = RemoveRequest { id: status.node, name: String::new() };
    let answer = context.client.remove(left).await;
    let answer = answer.map_err(|error| Failure::of_call(what, &error, |code| context.suggest_for(code)))?;
    let others = others(context, what, &answer)?;
    watch_go(context, &others, status.node, &name, "left").await
}

pub(super) async fn remove(context: &mut Context, args: &RemoveArgs) -> Result<(), Failure> {
    let request = RemoveRequest { id: 0, name: args.name.clone() };
    let what = format!("cannot remove {}", args.name);
    let answer = context.client.remove(request).await;
    let answer = answer.map_err(|error| {
        Failure::of_call(&what, &error, |code| match code {
            Code::InvalidArgument => context.suggest("cluster"),
            code => context.suggest_for(code),
        })
    })?;
    let others = others(context, &what, &answer)?;
    watch_go(context, &others, answer.id, &args.name, "removed").await
}

/// A client of those who stay: the node that goes ends when it is gone, and cannot tell.
fn others(context: &Context, what: &str, answer: &RemoveResponse) -> Result<Client, Failure> {
    let stay = answer.members.iter().filter(|member| member.id != answer.id && member.role() != Role::Leaving);
    Client::builder(stay.map(|member| member.address.clone()))
        .timeout(context.client.timeout())
        .discover(false)
        .sessions(false)
        .connect()
        .map_err(|error| Failure::of_call(what, &error, |code| context.suggest_for(code)))
}

/// Waits until a member is gone, as somebody who stays sees it.
async fn watch_go(
    context: &mut Context,
    client: &Client,
    id: u64,
    name: &str,
    state: &'static str,
) -> Result<(), Failure> {
    let until = Instant::now() + WATCH_MAX;
    loop {
        // An error is a member that is about to go itself, or busy: the next look may find another.
        let gone = |status: &StatusResponse| !status.members.iter().any(|member| member.id == id);
        if client.status().await.is_ok_and(|status| gone(&status)) {
            break;
        }
        if Instant::now() >= until {
            let what = format!("{name} is leaving, and is not gone after {} s", WATCH_MAX.as_secs());
            let why = "some group has not let it go yet: it goes on by itself as soon as there is a quorum";
            return Err(Failure::new(Exit::Unavailable, what, why, context.suggest("cluster")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if context.output.is_json() {
        return Ok(context.output.json(&MemberLine { id, name, state })?);
    }
    Ok(context.output.line(&format!("{name} (id {id}) {state}"))?)
}

pub(super) async fn transfer(context: &mut Context, args: &TransferArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Leads<'a> {
        id: u64,
        name: &'a str,
        leads: usize,
    }
    let what = format!("cannot make {} lead", args.name);
    let now = status(context, &what).await?;
    let heir = member(&now, &args.name).ok_or_else(|| {
        Failure::new(Exit::NotThere, &what, "there is no member of this name", context.suggest("cluster"))
    })?;
    let id = heir.id;
    if heir.role() != Role::Voter {
        let why = "it does not vote in all groups: it has to catch up first, or is leaving";
        return Err(Failure::new(Exit::Refused, &what, why, context.suggest("cluster")));
    }
    if !heir.reachable {
        let why = format!("{} does not reach it at {}: start it first", now.name, heir.address);
        return Err(Failure::new(Exit::Unavailable, &what, why, context.suggest("cluster")));
    }
    let until = Instant::now() + WATCH_MAX;
    let mut asked: Option<Instant> = None;
    let leads = loop {
        if asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            asked = Some(Instant::now());
            let request = TransferLeaderRequest { group: args.group, to: id };
            // Without a leader it was asked again until the time was over.
            let answer = context.client.transfer_leader(request).await;
            answer.map_err(|error| Failure::of_call(&what, &error, |code| context.suggest_for(code)))?;
        }
        let now = status(context, &what).await?;
        let asked_for = now.groups.iter().filter(|group| args.group.is_none_or(|only| group.id == only));
        let (done, left): (Vec<_>, Vec<_>) = asked_for.partition(|group| group.leader == id);
        if left.is_empty() {
            break done.len();
        }
        if Instant::now() >= until {
            let left: Vec<_> = left.iter().map(|group| group.id.to_string()).collect();
            let why = format!("groups {} are led by others still", left.join(", "));
            return Err(Failure::new(Exit::Unavailable, what, why, context.suggest("cluster")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    if context.output.is_json() {
        return Ok(context.output.json(&Leads { id, name: &args.name, leads })?);
    }
    let groups = if leads == 1 { "group" } else { "groups" };
    Ok(context.output.line(&format!("{} leads {leads} {groups}", args.name))?)
}

async fn status(context: &Context, what: &str) -> Result<StatusResponse, Failure> {
    let answer = context.client.status().await;
    answer.map_err(|error| Failure::of_call(what, &error, |code| context.suggest_for(code)))
}

fn member<'a>(status: &'a StatusResponse, name: &str) -> Option<&'a Member> {
    status.members.iter().find(|member| member.name == name)
}
