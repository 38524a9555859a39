//! Who leads: asked of the endpoints themselves.

use super::{Route, Standing, Target, drey, etcd};
use crate::error::Error;
use crate::grpc::Link;

/// The endpoints that a run uses: those given, or the leader of `bucket` alone.
pub(crate) async fn endpoints_in_use(
    target: Target,
    route: Route,
    bucket: &str,
    endpoints: &[String],
) -> Result<Vec<String>, Error> {
    if route == Route::All {
        return Ok(endpoints.to_vec());
    }
    Ok(vec![leader_of(target, bucket, endpoints).await?])
}

/// The endpoint that leads `bucket`. All must answer until one of them knows.
pub(crate) async fn leader_of(target: Target, bucket: &str, endpoints: &[String]) -> Result<String, Error> {
    for endpoint in endpoints {
        if let Some(leader) = leader_seen_by(target, bucket, endpoint).await? {
            return Ok(leader);
        }
    }
    Err(Error::NoLeader(format!("bucket `{bucket}`")))
}

/// The leader's endpoint, if this one knows it: drey names the leader's address, etcd only says "I am it".
async fn leader_seen_by(target: Target, bucket: &str, endpoint: &str) -> Result<Option<String>, Error> {
    let link = connect(endpoint).await?;
    match target {
        Target::Drey => {
            let status = drey_status(&link, endpoint).await?;
            Ok(status.leader_address(bucket).map(str::to_owned))
        }
        Target::Etcd => {
            let status = etcd_status(&link, endpoint).await?;
            let member = status.header.map_or(0, |header| header.member_id);
            Ok((status.leader != 0 && status.leader == member).then(|| endpoint.to_owned()))
        }
    }
}

/// Whether this endpoint answers and sees a leader: in drey of every group.
pub(crate) async fn knows_leader(target: Target, endpoint: &str) -> Result<bool, Error> {
    let link = connect(endpoint).await?;
    match target {
        Target::Drey => Ok(drey_status(&link, endpoint).await?.is_led()),
        Target::Etcd => Ok(etcd_status(&link, endpoint).await?.leader != 0),
    }
}

/// What this endpoint says of how far it has come.
pub(crate) async fn standing_of(target: Target, endpoint: &str) -> Result<Standing, Error> {
    let link = connect(endpoint).await?;
    match target {
        Target::Drey => Ok(Standing::from(&drey_status(&link, endpoint).await?)),
        Target::Etcd => Ok(Standing::from(&etcd_status(&link, endpoint).await?)),
    }
}

async fn connect(endpoint: &str) -> Result<Link, Error> {
    Link::connect(endpoint).await.map_err(|source| Error::Connect { endpoint: endpoint.to_owned(), source })
}

async fn drey_status(link: &Link, endpoint: &str) -> Result<drey::StatusResponse, Error> {
    let answer = link.ask(drey::STATUS, &drey::StatusRequest {}).await;
    answer.map_err(|source| Error::Call { endpoint: endpoint.to_owned(), what: drey::STATUS, source })
}

async fn etcd_status(link: &Link, endpoint: &str) -> Result<etcd::StatusResponse, Error> {
    let answer = link.ask(etcd::STATUS, &etcd::StatusRequest {}).await;
    answer.map_err(|source| Error::Call { endpoint: endpoint.to_owned(), what: etcd::STATUS, source })
}
