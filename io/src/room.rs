//! How much room the file systems of a node have left.

use std::path::Path;

use drey_core::Room;

use crate::config::Config;

/// What the file systems of a node with this configuration have left, whether it runs or not.
pub fn look(config: &Config) -> Room {
    let log_dir = config.log_dir.as_deref();
    let free = [Some(config.data_dir.as_path()), log_dir].into_iter().flatten().filter_map(free_bytes);
    // What cannot be looked at says nothing; a write to it will.
    Room { free_bytes: free.min().unwrap_or(u64::MAX), reserve_bytes: config.min_free_disk }
}

/// Whether there is less than is to be kept free.
pub fn is_short(config: &Config) -> bool {
    let Room { free_bytes, reserve_bytes } = look(config);
    free_bytes < reserve_bytes
}

/// Whether there is so much that a node that ended for want of room may start: a little more than is to be kept free.
pub fn is_there_again(config: &Config) -> bool {
    let Room { free_bytes, reserve_bytes } = look(config);
    free_bytes >= reserve_bytes + reserve_bytes / 4
}

/// Of the file system of a directory, or of where it will be made.
fn free_bytes(directory: &Path) -> Option<u64> {
    let directory = directory.ancestors().find(|at| at.is_dir()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(directory).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_made_yet_is_where_it_will_be() {
        let directory = tempfile::tempdir().expect("a directory");
        let there = free_bytes(directory.path()).expect("a file system");
        let deeper = free_bytes(&directory.path().join("a/b")).expect("the same file system");
        assert!(there > 0 && there.abs_diff(deeper) < 1 << 30);
        let config = Config { min_free_disk: 7, ..Config::new(directory.path().join("new")) };
        let room = look(&config);
        assert!(room.reserve_bytes == 7 && room.free_bytes.abs_diff(there) < 1 << 30);
    }
}
