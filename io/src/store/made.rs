//! Makes a store's directory so that it is there whole or not at all, whatever a power cut interrupts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Behind the directory's name while the store is being made.
const UNFINISHED: &str = ".unfinished";

/// Calls `make` if `directory` is absent or empty: with another name, which becomes `directory` once the store in it is whole.
/// `make` has synced what it wrote when it returns.
pub(super) fn make_if_absent<E: From<io::Error>>(
    directory: &Path,
    make: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    if !is_absent_or_empty(directory)? {
        return Ok(());
    }
    let unfinished = unfinished(directory);
    if !is_absent_or_empty(&unfinished)? {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&unfinished)?;
    make(&unfinished)?;
    sync(&unfinished)?;
    fs::rename(&unfinished, directory)?;
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok(sync(parent.unwrap_or(Path::new(".")))?)
}

fn unfinished(directory: &Path) -> PathBuf {
    let mut name = OsString::from(directory);
    name.push(UNFINISHED);
    name.into()
}

fn sync(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// Whether there is no store yet.
pub(crate) fn is_absent_or_empty(directory: &Path) -> io::Result<bool> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
