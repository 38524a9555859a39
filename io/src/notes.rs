//! The small files by which a node knows who it is: JSON, and behind it a line with a checksum, replaced as a whole and synced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use crate::identity::IdentityError;

/// What the last line begins with.
const CHECKSUM: &str = "#xxh3 ";

/// Reads one, if it is there.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, IdentityError> {
    let damaged = |reason: String| IdentityError::Damaged { path: path.to_owned(), reason };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(IdentityError::Io { operation: "read", path: path.to_owned(), source }),
    };
    let note = checked(&bytes).ok_or_else(|| damaged("its checksum does not fit".to_owned()))?;
    serde_json::from_slice(note).map(Some).map_err(|error| damaged(error.to_string()))
}

/// Writes one, so that after a crash it has the old content or the new.
pub(crate) fn save(path: &Path, content: &impl Serialize) -> Result<(), IdentityError> {
    let failed = |operation| move |source| IdentityError::Io { operation, path: path.to_owned(), source };
    let mut text = serde_json::to_vec_pretty(content)
        .map_err(|error| IdentityError::Damaged { path: path.to_owned(), reason: error.to_string() })?;
    text.push(b'\n');
    let line = format!("{CHECKSUM}{:016x}\n", xxh3_64(&text));
    text.extend_from_slice(line.as_bytes());
    let unfinished = path.with_extension("new");
    let mut file = File::create(&unfinished).map_err(failed("create"))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    fs::rename(&unfinished, path).map_err(failed("replace"))?;
    sync_parent(path)
}

/// Removes one, if it is there, so that it stays removed after a crash.
#[cfg(any(test, feature = "join"))]
pub(crate) fn remove(path: &Path) -> Result<(), IdentityError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(IdentityError::Io { operation: "remove", path: path.to_owned(), source: error })
        }
        _ => sync_parent(path),
    }
}

/// Syncs the directory that a path is in, and with it the path's name.
pub(crate) fn sync_parent(path: &Path) -> Result<(), IdentityError> {
    // A relative path of one part has an empty parent.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|source| IdentityError::Io {
        operation: "sync the directory of",
        path: path.to_owned(),
        source,
    })
}

/// What is before the line with the checksum, if that fits.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (note, line) = text.split_at(text.rfind(CHECKSUM)?);
    let line = line.strip_prefix(CHECKSUM)?.strip_suffix('\n')?;
    (line == format!("{:016x}", xxh3_64(note.as_bytes()))).then_some(note.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("note.json");
        assert_eq!(load::<Vec<u64>>(&path).unwrap(), None);
        save(&path, &[1u64, 20, 300]).unwrap();
        assert_eq!(load::<Vec<u64>>(&path).unwrap(), Some(vec![1, 20, 300]));
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                fs::write(&path, &damaged).unwrap();
                assert!(load::<Vec<u64>>(&path).is_err(), "bit {bit} of byte {at}");
            }
            fs::write(&path, &whole[..at]).unwrap();
            assert!(load::<Vec<u64>>(&path).is_err(), "cut at {at}");
        }
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(load::<Vec<u64>>(&path).unwrap(), None);
    }
}
