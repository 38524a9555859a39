//! `Cluster.Join`, `Remove` and `TransferLeader`: who the members are, and who leads.

use drey_client::proto::{
    JoinRequest, JoinResponse, Member, RemoveRequest, RemoveResponse, TransferLeaderRequest, TransferLeaderResponse,
    member::Role,
};
use drey_core::placement::{SYSTEM_GROUP, all_groups};
use drey_core::request::{Command, Operation, ReadMode, ReadOp, Reply};
use drey_core::system::{Members, SystemWrite};
use drey_core::{Error, GroupId, Incarnation, NodeId};

use super::{Backend, unexpected};

/// `Cluster.Join`.
pub async fn join<B: Backend>(backend: &B, request: JoinRequest, deadline_ms: u64) -> Result<JoinResponse, Error> {
    let status = backend.status().await?;
    let cluster = status.cluster.to_string();
    if !request.cluster.is_empty() && request.cluster != cluster {
        return Err(Error::Refused(format!("this is cluster {cluster}, not {}", request.cluster)));
    }
    let incarnation = (request.incarnation != 0).then_some(Incarnation(request.incarnation));
    let write = SystemWrite::Join { name: request.name, address: request.address, incarnation };
    match backend.call(Operation::Write(Command::system(write)), deadline_ms).await? {
        Reply::Members { id, members } => {
            let members = tell(&members);
            Ok(JoinResponse { id: id.0, cluster, members, groups: backend.groups(), epoch: status.epoch })
        }
        other => Err(unexpected(&other)),
    }
}

/// `Cluster.Remove`.
pub async fn remove<B: Backend>(
    backend: &B,
    request: RemoveRequest,
    deadline_ms: u64,
) -> Result<RemoveResponse, Error> {
    let member = match request.id {
        0 => find(backend, &request.name, deadline_ms).await?,
        id => NodeId(id),
    };
    let write = SystemWrite::Leave { member };
    match backend.call(Operation::Write(Command::system(write)), deadline_ms).await? {
        Reply::Members { id, members } => Ok(RemoveResponse { id: id.0, members: tell(&members) }),
        other => Err(unexpected(&other)),
    }
}

/// A member by its name: as this node knows it, which needs no leader, or else as of now.
async fn find<B: Backend>(backend: &B, name: &str, deadline_ms: u64) -> Result<NodeId, Error> {
    if let Some(member) = backend.status().await?.members.into_iter().find(|member| member.name == name) {
        return Ok(member.id);
    }
    let read = Operation::Read(SYSTEM_GROUP, ReadMode::Linearizable, ReadOp::Members);
    match backend.call(read, deadline_ms).await? {
        Reply::Members { members, .. } => {
            let named = members.iter().find(|member| member.name == name).map(|member| member.id);
            named.ok_or_else(|| Error::NotFound(format!("there is no member named {name:?}")))
        }
        other => Err(unexpected(&other)),
    }
}

/// `Cluster.TransferLeader`.
pub async fn transfer_leader<B: Backend>(
    backend: &B,
    request: TransferLeaderRequest,
    deadline_ms: u64,
) -> Result<TransferLeaderResponse, Error> {
    let to = NodeId(request.to);
    if !backend.status().await?.members.iter().any(|member| member.id == to) {
        return Err(Error::NotFound(format!("there is no member with the id {to}")));
    }
    let groups: Vec<GroupId> = match request.group {
        Some(group) if group > backend.groups() => {
            return Err(Error::NotFound(format!("there is no group {group}: the last one is {}", backend.groups())));
        }
        Some(group) => vec![GroupId(group)],
        None => all_groups(backend.groups()).collect(),
    };
    for group in groups {
        backend.call(Operation::Transfer(group, to), deadline_ms).await?;
    }
    Ok(TransferLeaderResponse {})
}

/// The members as the system group has them. Who of them votes already, each group knows: see `Cluster.Status`.
fn tell(members: &Members) -> Vec<Member> {
    let member = |member: &drey_core::system::Member| Member {
        id: member.id.0,
        name: member.name.clone(),
        address: member.address.clone(),
        role: if member.leaving.is_some() { Role::Leaving } else { Role::Voter }.into(),
        ..Member::default()
    };
    members.iter().map(member).collect()
}
