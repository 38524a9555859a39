//! What to try when a node does not start, and how the process ends.

use drey_io::{BindError, IdentityError, JoinError, LockError, StartError};

use crate::cli::{Exit, StartArgs};

/// The exit code of a node that did not start, and the command to try; empty where the error says all there is to do.
pub(super) fn of_start(error: &StartError, args: &StartArgs) -> (Exit, String) {
    let directory = args.data_dir.display();
    match error {
        StartError::Invalid(_) | StartError::Identity(IdentityError::Invalid(_)) => (Exit::Usage, help()),
        StartError::Bind(BindError::AddressInUse(_) | BindError::Io { .. }) => {
            (Exit::Refused, "drey start --listen HOST:PORT, with an address of this machine and a free port".to_owned())
        }
        StartError::Locked(LockError::Held { .. }) => (Exit::Refused, "drey start --data-dir DIR".to_owned()),
        StartError::Identity(IdentityError::Contradiction(_)) => {
            (Exit::Refused, format!("drey start --data-dir {directory}, without that option"))
        }
        StartError::Identity(IdentityError::Log(_)) => {
            (Exit::Refused, format!("drey start --data-dir {directory} --log-dir DIR"))
        }
        StartError::Identity(IdentityError::Left { .. }) => (Exit::Refused, join_anew(args)),
        StartError::Identity(IdentityError::Damaged { .. } | IdentityError::Lost(_))
        | StartError::Damaged(_)
        | StartError::Recover(_)
        | StartError::Store { .. }
        | StartError::DamagedStore { .. }
        | StartError::MemoryOnly { .. } => (Exit::Refused, replace(args)),
        StartError::Identity(IdentityError::Io { .. })
        | StartError::Locked(LockError::Io { .. })
        | StartError::LogFile(_)
        | StartError::IoUring(_)
        | StartError::Executors(_)
        | StartError::Io { .. } => (Exit::Refused, String::new()),
    }
}

/// As [`of_start`], of a node that was to join.
pub(super) fn of_join(error: &JoinError, args: &StartArgs) -> (Exit, String) {
    match error {
        JoinError::Invalid(_) => (Exit::Usage, help()),
        JoinError::HasFounded(_) => (Exit::Refused, join_anew(args)),
        JoinError::Refused { code, .. } => ((*code).into(), format!("drey cluster --server {}", args.join.join(","))),
        JoinError::NoAnswer { .. } => (Exit::Unavailable, format!("drey cluster --server {}", args.join.join(","))),
        JoinError::Start(error) => of_start(error, args),
    }
}

/// Of one whose repair does not come to an end.
pub(super) fn of_repair(args: &StartArgs) -> (Exit, String) {
    (Exit::Refused, replace(args))
}

/// Of a node that ran, and could not go on.
pub(super) fn of_end(args: &StartArgs) -> String {
    format!("drey start again; if it cannot be: {}", replace(args))
}

fn help() -> String {
    "drey start --help".to_owned()
}

fn name(args: &StartArgs) -> &str {
    args.name.as_deref().unwrap_or("NAME")
}

fn join_anew(args: &StartArgs) -> String {
    format!("drey start --name {} --data-dir NEW --join ADDR", name(args))
}

fn replace(args: &StartArgs) -> String {
    let directory = args.data_dir.display();
    format!(
        "drey remove {} --server ADDR, then {}; or, if it stands alone, drey recover --data-dir {directory}",
        name(args),
        join_anew(args)
    )
}
