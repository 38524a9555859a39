//! A copy of a store to look at: opening a store may cut, repair or remove what is in it, and whoever only looks must change nothing.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Behind the directory's name.
const COPY: &str = ".copy";
/// Files in a directory of this name are written once: fjall's tables. They are linked, not copied.
const WRITTEN_ONCE: &str = "tables";

/// A directory beside the store, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct StoreCopy {
    path: PathBuf,
}

impl StoreCopy {
    /// Copies the store in `directory`. A copy that was left behind is removed first.
    pub fn of(directory: &Path) -> io::Result<StoreCopy> {
        let mut path = directory.as_os_str().to_owned();
        path.push(COPY);
        let path = PathBuf::from(path);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        let made = StoreCopy { path };
        copy(directory, &made.path)?;
        Ok(made)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StoreCopy {
    fn drop(&mut self) {
        // The next one removes what stays.
        drop(fs::remove_dir_all(&self.path));
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    let is_written_once = from.ends_with(WRITTEN_ONCE);
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if !is_written_once || fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
