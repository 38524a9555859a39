//! Who a node is: drawn or agreed on once, when its data directory is made, and never changed by a flag afterwards.
//!
//! `identity.json` says it; `peers.json` keeps the incarnation of every peer that was met, so that one that lost its disk is
//! recognised; `members.json` keeps where the others are.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use drey_core::system::{Founder, Members, check_name};
use drey_core::wire::handshake::Acquaintances;
use drey_core::{ClusterId, Incarnation, NodeId, limits};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

use crate::config::{Config, Engine, FoundingMember, Joined};
use crate::notes;
use crate::store::is_absent_or_empty;

const FORMAT: u32 = 1;
const NAME_DEFAULT: &str = "n1";
const GROUPS_DEFAULT: u32 = 16;
const IDENTITY_FILE: &str = "identity.json";
const PEERS_FILE: &str = "peers.json";
/// Who the members were when that changed last: whom to ask if all else is damaged.
const MEMBERS_FILE: &str = "members.json";
/// Drawn before a node joins, so that joining can be repeated.
const JOINING_FILE: &str = "joining.json";
/// In the log's directory: whose log it is.
const LOG_OWNER_FILE: &str = "owner.json";

/// A member as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it is reached, `host:port`.
    pub address: String,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    format: u32,
    cluster: String,
    /// This node's id.
    pub node: u64,
    /// This node's name.
    pub name: String,
    /// Of this data directory.
    pub incarnation: u64,
    /// The cluster's epoch.
    pub epoch: u64,
    /// How many groups hold buckets.
    pub groups: u32,
    /// The engine that made the store.
    pub engine: Engine,
    /// The members that the cluster was founded with, or that it had when this node joined; this one too. Who they are now, the
    /// system group knows.
    pub members: Vec<Member>,
    /// It joined a cluster that was there before.
    #[serde(default)]
    pub joined: bool,
    /// It was another member before, whose files were damaged.
    #[serde(default)]
    repaired: bool,
    /// It left its cluster: no id is used twice, so that nothing can start here any more.
    #[serde(default)]
    left: bool,
}

/// Whose log it is.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LogOwner {
    cluster: String,
    node: u64,
    incarnation: u64,
}

/// Why a node has no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The directory or a file in it cannot be used.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file says what it should not.
    #[error("{} is damaged ({reason}): restore it from a copy, or remove this member and let it join anew", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// The log is not where it should be, or another's.
    #[error("{0}")]
    Log(String),
    /// A part of what makes the directory that of a node is gone.
    #[error("{0}")]
    Lost(String),
    /// A flag contradicts the data directory.
    #[error("{0}")]
    Contradiction(String),
    /// The node has left its cluster.
    #[error(
        "{} is that of {name} (id {node}), which left its cluster {cluster}: no id is used twice, so that this directory is used \
         up. To join again, start with another, empty directory", .directory.display()
    )]
    Left {
        /// The data directory.
        directory: PathBuf,
        /// The node's name.
        name: String,
        /// The node's id.
        node: u64,
        /// The cluster's id.
        cluster: String,
    },
    /// The settings make no cluster.
    #[error("{0}")]
    Invalid(String),
}

impl Identity {
    /// The cluster's id.
    pub fn cluster(&self) -> ClusterId {
        ClusterId(u128::from_str_radix(&self.cluster, 16).unwrap_or_default())
    }

    /// The members that it began with.
    pub(crate) fn first_members(&self) -> Vec<Founder> {
        let founder = |member: &Member| Founder {
            id: NodeId(member.id),
            name: member.name.clone(),
            address: member.address.clone(),
        };
        self.members.iter().map(founder).collect()
    }

    /// Who the node of this directory is, if there is one.
    pub(crate) fn of(data_dir: &Path) -> Result<Option<Identity>, IdentityError> {
        Identity::load(&data_dir.join(IDENTITY_FILE))
    }

    /// Reads who the node is, or decides it for an empty directory. `address` is where others reach it, `log_dir` where the
    /// log is, or is to be. True: it was decided just now.
    pub fn load_or_found(config: &Config, address: &str, log_dir: &Path) -> Result<(Identity, bool), IdentityError> {
        let path = config.data_dir.join(IDENTITY_FILE);
        if let Some(identity) = Identity::load(&path)? {
            identity.is_in_use(&config.data_dir)?;
            identity.agree(config)?;
            identity.owns_log(log_dir).map_err(|error| lost(error, config))?;
            return Ok((identity, false));
        }
        holds_no_store(&config.data_dir)?;
        let identity = match &config.joined {
            Some(joined) => Identity::join(config, joined)?,
            None => Identity::found(config, address)?,
        };
        // The log's mark comes first: a node that knows who it is has a log.
        identity.mark_log(log_dir, &path).map_err(|error| lost(error, config))?;
        notes::save(&path, &identity)?;
        Ok((identity, true))
    }

    /// Notes that the node has left its cluster, durably.
    pub(crate) fn leave(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let path = data_dir.join(IDENTITY_FILE);
        notes::save(&path, &Identity { left: true, ..self.clone() })
    }

    fn is_in_use(&self, data_dir: &Path) -> Result<(), IdentityError> {
        if !self.left {
            return Ok(());
        }
        Err(IdentityError::Left {
            directory: data_dir.to_owned(),
            name: self.name.clone(),
            node: self.node,
            cluster: self.cluster.clone(),
        })
    }

    fn load(path: &Path) -> Result<Option<Identity>, IdentityError> {
        let Some(identity) = notes::load::<Identity>(path)? else { return Ok(None) };
        if u128::from_str_radix(&identity.cluster, 16).is_err() || identity.format != FORMAT {
            let reason = "unknown format or cluster id".into();
            return Err(IdentityError::Damaged { path: path.to_owned(), reason });
        }
        Ok(Some(identity))
    }

    fn join(config: &Config, joined: &Joined) -> Result<Identity, IdentityError> {
        let name = joined.members.iter().find(|member| member.id == joined.node).map(|own| own.name.clone());
        let (Some(name), Ok(_)) = (name, u128::from_str_radix(&joined.cluster, 16)) else {
            return Err(IdentityError::Invalid("the cluster's answer to joining makes no sense".to_owned()));
        };
        Ok(Identity {
            format: FORMAT,
            cluster: joined.cluster.clone(),
            node: joined.node,
            name,
            incarnation: incarnation_of(&config.data_dir)?,
            epoch: joined.epoch,
            groups: joined.groups,
            engine: config.engine.unwrap_or_default(),
            members: joined.members.clone(),
            joined: true,
            repaired: joined.repaired,
            left: false,
        })
    }

    fn found(config: &Config, address: &str) -> Result<Identity, IdentityError> {
        let invalid = |text: String| Err(IdentityError::Invalid(text));
        let name = config.name.clone().unwrap_or_else(|| NAME_DEFAULT.to_owned());
        for name in config.initial_members.iter().map(|member| &member.name).chain([&name]) {
            check_name(name).map_err(|error| IdentityError::Invalid(error.to_string()))?;
        }
        let groups = config.groups.unwrap_or(GROUPS_DEFAULT);
        if groups == 0 || groups > limits::GROUPS_MAX {
            return invalid(format!("--groups must be from 1 to {}", limits::GROUPS_MAX));
        }
        let mut founders = match config.initial_members.is_empty() {
            true => vec![FoundingMember { name: name.clone(), address: address.to_owned() }],
            false => config.initial_members.clone(),
        };
        // The order in which they were written down must not matter: every founder computes the same.
        founders.sort_by(|a, b| a.name.cmp(&b.name));
        if founders.windows(2).any(|pair| pair[0].name == pair[1].name) || founders.len() > limits::MEMBERS_MAX {
            return invalid(format!("--initial-members must name each of at most {} once", limits::MEMBERS_MAX));
        }
        if let Some(twice) = founders.iter().enumerate().find_map(|(at, one)| {
            founders[..at].iter().any(|other| other.address == one.address).then_some(&one.address)
        }) {
            return invalid(format!("--initial-members has the address {twice} twice"));
        }
        let Some(place) = founders.iter().position(|founder| founder.name == name) else {
            return invalid(format!("--initial-members does not name this node, {name:?} (--name)"));
        };
        if let Some(advertised) = config.advertise.as_ref().filter(|advertised| **advertised != founders[place].address)
        {
            let known = &founders[place].address;
            return invalid(format!("--advertise {advertised} is not what --initial-members says of {name}, {known}"));
        }
        let unspecified =
            |address: &str| address.parse().is_ok_and(|address: SocketAddr| address.ip().is_unspecified());
        if let Some(FoundingMember { name, address }) = founders.iter().find(|founder| unspecified(&founder.address)) {
            return invalid(format!(
                "nobody can reach {name} at {address}: say with --advertise, or in --initial-members, where they can"
            ));
        }
        let cluster = match founders.len() {
            1 => u128::from(random_u64()?) << 64 | u128::from(random_u64()?),
            _ => {
                let text: String =
                    founders.iter().map(|member| format!("{}={}\n", member.name, member.address)).collect();
                xxh3_128(format!("{text}groups={groups}").as_bytes())
            }
        };
        let members = founders.into_iter().zip(1..);
        Ok(Identity {
            format: FORMAT,
            cluster: ClusterId(cluster).to_string(),
            node: place as u64 + 1,
            name,
            incarnation: random_u64()?,
            epoch: 0,
            groups,
            engine: config.engine.unwrap_or_default(),
            members: members.map(|(member, id)| Member { id, name: member.name, address: member.address }).collect(),
            joined: false,
            repaired: false,
            left: false,
        })
    }

    /// A node with data is what it was; a flag that says otherwise is a mistake.
    fn agree(&self, config: &Config) -> Result<(), IdentityError> {
        let contradicts = |flag: &str, is: &dyn fmt::Display, wanted: &dyn fmt::Display| {
            let directory = config.data_dir.display();
            Err(IdentityError::Contradiction(format!(
                "{directory} was made with --{flag} {is}, and is kept with it: start without --{flag} {wanted}"
            )))
        };
        match config {
            Config { name: Some(name), .. } if *name != self.name => contradicts("name", &self.name, name),
            Config { engine: Some(engine), .. } if *engine != self.engine => {
                contradicts("engine", &self.engine, engine)
            }
            Config { groups: Some(groups), .. } if *groups != self.groups => {
                contradicts("groups", &self.groups, groups)
            }
            // It was repaired by joining anew, and is started as ever.
            Config { initial_members, .. } if !initial_members.is_empty() && self.joined && self.repaired => Ok(()),
            Config { initial_members, .. } if !initial_members.is_empty() && self.joined => {
                let directory = config.data_dir.display();
                Err(IdentityError::Contradiction(format!(
                    "{directory} was made by joining a cluster: start without --initial-members"
                )))
            }
            Config { initial_members, .. } if !initial_members.is_empty() && !self.was_founded_by(initial_members) => {
                let list = |members: Vec<String>| members.join(",");
                let wanted = initial_members.iter().map(|member| format!("{}={}", member.name, member.address));
                let is = self.members.iter().map(|member| format!("{}={}", member.name, member.address));
                contradicts("initial-members", &list(is.collect()), &list(wanted.collect()))
            }
            Config { advertise: Some(address), .. } if *address != self.address() => {
                contradicts("advertise", &self.address(), address)
            }
            _ => Ok(()),
        }
    }

    /// Where others reach this node.
    pub fn address(&self) -> &str {
        self.members.iter().find(|member| member.id == self.node).map_or("", |own| &own.address)
    }

    /// A log that was lost, or that is looked for in the wrong place, must not be taken for one that has not begun.
    pub(crate) fn owns_log(&self, log_dir: &Path) -> Result<(), IdentityError> {
        let path = log_dir.join(LOG_OWNER_FILE);
        let Some(owner) = notes::load::<LogOwner>(&path)? else {
            return Err(IdentityError::Lost(format!(
                "the log of this node is not in {}: say with --log-dir where it is; without it the node's data are lost, and it \
                 must not start as if they were not",
                log_dir.display()
            )));
        };
        if owner != self.log_owner() {
            let log_dir = log_dir.display();
            return Err(IdentityError::Log(format!("the log in {log_dir} belongs to another node or data directory")));
        }
        Ok(())
    }

    fn mark_log(&self, log_dir: &Path, identity: &Path) -> Result<(), IdentityError> {
        fs::create_dir_all(log_dir).map_err(|source| IdentityError::Io {
            operation: "make the log's directory",
            path: log_dir.to_owned(),
            source,
        })?;
        let mut entries = fs::read_dir(log_dir).map_err(|source| IdentityError::Io {
            operation: "list",
            path: log_dir.to_owned(),
            source,
        })?;
        if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".log"))) {
            return Err(IdentityError::Lost(format!(
                "{} holds a log, but {} is missing: restore it from a copy, or give empty directories for a new node",
                log_dir.display(),
                identity.display()
            )));
        }
        let path = log_dir.join(LOG_OWNER_FILE);
        notes::save(&path, &self.log_owner())?;
        // The log's directory, too, must be there after a crash that leaves the identity.
        notes::sync_parent(log_dir)
    }

    fn log_owner(&self) -> LogOwner {
        LogOwner { cluster: self.cluster.clone(), node: self.node, incarnation: self.incarnation }
    }

    /// In whatever order they are written down.
    fn was_founded_by(&self, founders: &[FoundingMember]) -> bool {
        let is_known = |founder: &FoundingMember| {
            self.members.iter().any(|member| member.name == founder.name && member.address == founder.address)
        };
        founders.len() == self.members.len() && founders.iter().all(is_known)
    }
}

/// A directory with a store is not that of a new node, whatever else is gone.
fn holds_no_store(data_dir: &Path) -> Result<(), IdentityError> {
    let store = data_dir.join("store");
    if is_absent_or_empty(&store).unwrap_or(false) {
        return Ok(());
    }
    Err(IdentityError::Lost(format!(
        "{} holds a store, but {} is missing: restore it from a copy, or give an empty directory for a new node",
        store.display(),
        data_dir.join(IDENTITY_FILE).display()
    )))
}

/// A log that was put on another disk may only not be there now, if that is not mounted.
fn lost(error: IdentityError, config: &Config) -> IdentityError {
    match error {
        IdentityError::Lost(why) if config.log_dir.is_some() => IdentityError::Log(why),
        error => error,
    }
}

/// What a data directory is, before a node starts in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// Empty: a node that joins with it has this incarnation, which is on disk from now on.
    Empty(u64),
    /// Of a node that joined a cluster.
    Joined,
    /// Of a node that founded a cluster, alone or with others.
    Founded,
}

/// Looks into a data directory, which is made if it is not there, for a node that is to join a cluster.
pub fn look_into(data_dir: &Path) -> Result<DataDir, IdentityError> {
    match Identity::load(&data_dir.join(IDENTITY_FILE))? {
        Some(identity) => {
            identity.is_in_use(data_dir)?;
            Ok(if identity.joined { DataDir::Joined } else { DataDir::Founded })
        }
        None => {
            holds_no_store(data_dir)?;
            fs::create_dir_all(data_dir).map_err(|source| IdentityError::Io {
                operation: "make",
                path: data_dir.to_owned(),
                source,
            })?;
            Ok(DataDir::Empty(incarnation_of(data_dir)?))
        }
    }
}

/// The incarnation that a node joins with: drawn once.
fn incarnation_of(data_dir: &Path) -> Result<u64, IdentityError> {
    let path = data_dir.join(JOINING_FILE);
    if let Some(incarnation) = notes::load(&path)? {
        return Ok(incarnation);
    }
    let incarnation = random_u64()?;
    notes::save(&path, &incarnation)?;
    Ok(incarnation)
}

/// The peers that were met, as they are kept.
pub(crate) fn load_acquaintances(data_dir: &Path) -> Result<Acquaintances, IdentityError> {
    let path = data_dir.join(PEERS_FILE);
    let kept: BTreeMap<u64, u64> = notes::load(&path)?.unwrap_or_default();
    let incarnations = kept.into_iter().map(|(id, incarnation)| (NodeId(id), Incarnation(incarnation))).collect();
    Ok(Acquaintances { incarnations })
}

/// Keeps the peers that were met, durably.
pub(crate) fn save_acquaintances(data_dir: &Path, met: &Acquaintances) -> Result<(), IdentityError> {
    let kept: BTreeMap<u64, u64> = met.incarnations.iter().map(|(id, incarnation)| (id.0, incarnation.0)).collect();
    notes::save(&data_dir.join(PEERS_FILE), &kept)
}

/// Keeps who the members are: those to be asked if the rest of the directory is of no use any more.
pub(crate) fn save_members(data_dir: &Path, members: &Members) -> Result<(), IdentityError> {
    let member = |member: &drey_core::system::Member| Member {
        id: member.id.0,
        name: member.name.clone(),
        address: member.address.clone(),
    };
    let kept: Vec<Member> = members.iter().map(member).collect();
    notes::save(&data_dir.join(MEMBERS_FILE), &kept)
}

/// Who the node of a directory was and who the others are, as far as its files still tell.
#[cfg(feature = "join")]
pub(crate) struct Remains {
    pub cluster: String,
    pub node: u64,
    pub engine: Option<Engine>,
    /// This node, too.
    pub members: Vec<Member>,
}

#[cfg(feature = "join")]
impl Remains {
    /// What is known of the node in `data_dir`, whose log is in `log_dir`. None: too little.
    pub fn of(data_dir: &Path, log_dir: &Path) -> Option<Remains> {
        let identity = Identity::of(data_dir).ok().flatten();
        let owner = notes::load::<LogOwner>(&log_dir.join(LOG_OWNER_FILE)).ok().flatten();
        let (cluster, node) = match (&identity, owner) {
            (Some(identity), _) => (identity.cluster.clone(), identity.node),
            (None, Some(owner)) => (owner.cluster, owner.node),
            (None, None) => return None,
        };
        let known = notes::load::<Vec<Member>>(&data_dir.join(MEMBERS_FILE)).ok().flatten();
        let members = known.or_else(|| identity.as_ref().map(|identity| identity.members.clone()))?;
        let engine = identity.map(|identity| identity.engine);
        Some(Remains { cluster, node, engine, members })
    }
}

/// Removes all that makes a directory that of a node, but for what it holds of other kinds. Its log and store are the caller's.
#[cfg(feature = "join")]
pub(crate) fn forget(data_dir: &Path, log_dir: &Path) -> Result<(), IdentityError> {
    for file in [IDENTITY_FILE, PEERS_FILE, JOINING_FILE, MEMBERS_FILE] {
        notes::remove(&data_dir.join(file))?;
    }
    notes::remove(&log_dir.join(LOG_OWNER_FILE))
}

/// From the operating system.
pub(crate) fn random_u64() -> Result<u64, IdentityError> {
    let path = PathBuf::from("/dev/urandom");
    let mut bytes = [0; 8];
    File::open(&path).and_then(|mut file| file.read_exact(&mut bytes)).map_err(|source| IdentityError::Io {
        operation: "read",
        path,
        source,
    })?;
    Ok(u64::from_le_bytes(bytes))
}
