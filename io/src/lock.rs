//! One process per data directory.
//!
//! Two on one directory would each believe the log to be theirs. The lock is the system's (`flock`), so it ends with
//! the process however that ends; the process id in the file is for the error's reader only.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

/// The lock's file in the data directory.
pub const LOCK_FILE: &str = "LOCK";

/// A held lock. Dropping it lets the directory go.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Why a directory was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "the data directory {} is in use by {}: stop it first, or choose another --data-dir", .directory.display(),
        .process.map_or("another process".to_owned(), |id| format!("process {id}"))
    )]
    Held {
        /// The directory.
        directory: PathBuf,
        /// Who holds it, where its file says.
        process: Option<u32>,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock the data directory {}: {source}", .directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DirectoryLock {
    /// Locks an existing directory, or says who has it.
    pub fn acquire(directory: &Path) -> Result<DirectoryLock, LockError> {
        let failed = |source| LockError::Io { directory: directory.to_owned(), source };
        let path = directory.join(LOCK_FILE);
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without a readable id the error is still the right one.
                let _ = file.take(32).read_to_string(&mut holder);
                return Err(LockError::Held { directory: directory.to_owned(), process: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(DirectoryLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_has_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::acquire(directory.path()).unwrap();
        let refused = DirectoryLock::acquire(directory.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        assert!(refused.contains(directory.path().to_str().unwrap()), "{refused}");
        drop(first);
        DirectoryLock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn a_lock_file_without_a_process_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(LOCK_FILE), "99999999 was here").unwrap();
        let _first = DirectoryLock::acquire(directory.path()).unwrap();
        let written = std::fs::read_to_string(directory.path().join(LOCK_FILE)).unwrap();
        assert_eq!(written.trim(), std::process::id().to_string());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let refused = DirectoryLock::acquire(Path::new("/nonexistent/drey")).unwrap_err().to_string();
        assert!(refused.contains("/nonexistent/drey"), "{refused}");
    }
}
