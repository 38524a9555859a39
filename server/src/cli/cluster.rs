//! `node` and `cluster`: one node's view of itself and of all.

use super::duration;
use super::output::say_bytes;
use super::scrub::ScrubView;
use super::{Context, Failure};
use drey_client::proto::{GroupStatus, Limit, StatusResponse, member::Role};
use serde::Serialize;

/// A node in JSON.
#[derive(Serialize)]
struct NodeView<'a> {
    id: u64,
    name: &'a str,
    address: &'a str,
    state: &'static str,
    leads: usize,
    groups: usize,
    metadata: Metadata<'a>,
}

/// What a node runs, and what it takes for it.
#[derive(Serialize)]
struct Metadata<'a> {
    cluster: &'a str,
    version: &'a str,
    engine: &'a str,
    shards: u32,
    uptime_ms: u64,
    disk_bytes: u64,
    memory_bytes: u64,
    free_bytes: u64,
    reserve_bytes: u64,
    room: &'a str,
    leader_changes: u64,
    scrub: ScrubView,
    limits: Vec<LimitView<'a>>,
}

/// A bound and its use.
#[derive(Serialize)]
struct LimitView<'a> {
    name: &'a str,
    now: u64,
    max: u64,
    refused: u64,
}

/// A cluster in JSON.
#[derive(Serialize)]
struct ClusterView<'a> {
    cluster: &'a str,
    seen_by: &'a str,
    members: Vec<MemberView<'a>>,
    groups: Vec<GroupView<'a>>,
}

#[derive(Serialize)]
struct MemberView<'a> {
    id: u64,
    name: &'a str,
    address: &'a str,
    role: &'static str,
    leads: usize,
    reachable: bool,
    version: &'a str,
}

#[derive(Serialize)]
struct GroupView<'a> {
    id: u32,
    /// The leader's name, or nothing when there is none.
    leader: Option<&'a str>,
    term: u64,
    committed: u64,
    applied: u64,
    shard: u32,
}

pub(super) async fn node(context: &mut Context) -> Result<(), Failure> {
    let status = status(context, "cannot see a node").await?;
    let view = node_view(&status);
    if context.output.is_json() {
        context.output.json(&view)?;
        return Ok(());
    }
    let metadata = &view.metadata;
    let lines = [
        ("node", format!("{} (id {})", view.name, view.id)),
        ("address", view.address.to_owned()),
        ("state", view.state.to_owned()),
        ("leads", format!("{} of {} groups", view.leads, view.groups)),
        ("cluster", metadata.cluster.to_owned()),
        ("version", metadata.version.to_owned()),
        ("engine", metadata.engine.to_owned()),
        ("shards", metadata.shards.to_string()),
        ("uptime", duration::say(metadata.uptime_ms)),
        ("disk", say_bytes(metadata.disk_bytes)),
        ("free", room_in_words(metadata)),
        ("memory", say_bytes(metadata.memory_bytes)),
        ("changes", format!("{} of a group's leader", metadata.leader_changes)),
        ("scrub", metadata.scrub.in_words()),
    ];
    for (name, value) in lines {
        context.output.line(&format!("{name:<9}{value}"))?;
    }
    context.output.line("")?;
    let number = |number: u64| number.to_string();
    let row = |limit: &LimitView<'_>| {
        vec![limit.name.to_owned(), number(limit.now), number(limit.max), number(limit.refused)]
    };
    context.output.table(&["LIMIT", "NOW", "MAX", "REFUSED"], &[1, 2, 3], metadata.limits.iter().map(row).collect())?;
    Ok(())
}

pub(super) async fn cluster(context: &mut Context) -> Result<(), Failure> {
    let status = status(context, "cannot see the cluster").await?;
    let view = cluster_view(&status);
    if context.output.is_json() {
        context.output.json(&view)?;
        return Ok(());
    }
    context.output.line(&format!("cluster {}, as {} sees it", view.cluster, view.seen_by))?;
    context.output.line("")?;
    let row = |member: &MemberView<'_>| {
        vec![
            member.id.to_string(),
            member.name.to_owned(),
            member.address.to_owned(),
            member.role.to_owned(),
            member.leads.to_string(),
            if member.reachable { "yes" } else { "no" }.to_owned(),
            if member.version.is_empty() { "-" } else { member.version }.to_owned(),
        ]
    };
    let rows = view.members.iter().map(row).collect();
    context.output.table(&["ID", "NAME", "ADDRESS", "ROLE", "LEADS", "REACHABLE", "VERSION"], &[0, 4], rows)?;
    context.output.line("")?;
    let row = |group: &GroupView<'_>| {
        vec![
            group.id.to_string(),
            group.leader.unwrap_or("none").to_owned(),
            group.term.to_string(),
            group.committed.to_string(),
            group.applied.to_string(),
            group.shard.to_string(),
        ]
    };
    let rows = view.groups.iter().map(row).collect();
    context.output.table(&["GROUP", "LEADER", "TERM", "COMMITTED", "APPLIED", "SHARD"], &[0, 2, 3, 4, 5], rows)?;
    Ok(())
}

async fn status(context: &Context, what: &str) -> Result<StatusResponse, Failure> {
    let answer = context.client.status().await;
    answer.map_err(|error| Failure::of_call(what, &error, |code| context.suggest_for(code)))
}

fn node_view(status: &StatusResponse) -> NodeView<'_> {
    let address = status.members.iter().find(|member| member.id == status.node).map_or("", |member| &member.address);
    NodeView {
        id: status.node,
        name: &status.name,
        address,
        state: state(&status.groups),
        leads: leads(&status.groups, status.node),
        groups: status.groups.len(),
        metadata: Metadata {
            cluster: &status.cluster,
            version: &status.version,
            engine: &status.engine,
            shards: status.shards,
            uptime_ms: status.uptime_ms,
            disk_bytes: status.disk_bytes,
            memory_bytes: status.memory_bytes,
            free_bytes: status.room.as_ref().map_or(0, |room| room.free_bytes),
            reserve_bytes: status.room.as_ref().map_or(0, |room| room.reserve_bytes),
            room: status.room.as_ref().map_or("", |room| &room.level),
            leader_changes: status.leader_changes,
            scrub: ScrubView::of(status),
            limits: status.limits.iter().map(limit_view).collect(),
        },
    }
}

fn room_in_words(node: &Metadata<'_>) -> String {
    let (free, kept) = (say_bytes(node.free_bytes), say_bytes(node.reserve_bytes));
    match node.room {
        "" => "unknown".to_owned(),
        "low" => format!("{free}: LESS than the {kept} that it keeps free, others should lead"),
        "exhausted" => format!("{free}: FULL, it takes nothing until there is room"),
        _ => format!("{free}, of which it keeps {kept}"),
    }
}

fn limit_view(limit: &Limit) -> LimitView<'_> {
    LimitView { name: &limit.name, now: limit.now, max: limit.max, refused: limit.refused }
}

fn cluster_view(status: &StatusResponse) -> ClusterView<'_> {
    let name = |id: u64| status.members.iter().find(|member| member.id == id).map(|member| member.name.as_str());
    let members = status
        .members
        .iter()
        .map(|found| MemberView {
            id: found.id,
            name: &found.name,
            address: &found.address,
            role: match found.role() {
                Role::Voter => "voter",
                Role::Learner => "learner",
                Role::Leaving => "leaving",
            },
            leads: leads(&status.groups, found.id),
            reachable: found.reachable,
            version: &found.version,
        })
        .collect();
    let mut groups: Vec<GroupView<'_>> = status
        .groups
        .iter()
        .map(|group| GroupView {
            id: group.id,
            leader: name(group.leader),
            term: group.term,
            committed: group.committed,
            applied: group.applied,
            shard: group.shard,
        })
        .collect();
    groups.sort_by_key(|group| group.id);
    ClusterView { cluster: &status.cluster, seen_by: &status.name, members, groups }
}

fn leads(groups: &[GroupStatus], node: u64) -> usize {
    groups.iter().filter(|group| group.leader == node && node != 0).count()
}

/// What can be done with the node's groups: everything, some of it (`degraded`), or nothing (`no_leader`).
fn state(groups: &[GroupStatus]) -> &'static str {
    match groups.iter().filter(|group| group.leader == 0).count() {
        0 if groups.is_empty() => "starting",
        0 => "serving",
        leaderless if leaderless == groups.len() => "no_leader",
        _ => "degraded",
    }
}
