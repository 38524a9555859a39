//! Looks at fjall's journals before fjall does, which takes any damage for the end of what was written.
//!
//! Of the newest journal the end may never have been synced. Blocks reach a disk in any order, so that after a power cut a batch there may have a
//! hole in it, with whole batches behind it. fjall 3.1.13 copes with most of this, but when the hole lies within one large value it
//! refuses to open at all (or, when built with debug assertions, may panic). So that journal is cut behind its last whole batch.
//!
//! Older journals were synced before the next one was begun: what is broken there, or missing, is damage. fjall would read those behind it
//! all the same, and show a state with a hole in it. It would begin a new journal if there is none at all, and then take all tables for
//! newer than what it shows.
//!
//! The journal's format (fjall's format version 3; numbers are little-endian):
//! ```text
//! start  1 | items u32 | sequence number u64
//! item   2 | kind u8 | compression u8 | keyspace u64 | key length u16 | value length u32 | stored length u32 | key | stored value
//! clear  4 | keyspace u64
//! end    3 | XXH3 of the items' bytes u64 | "FJL" 3
//! ```
//! The file is preallocated: behind the last batch there are zeros.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = *b"FJL\x03";
/// Far more than the store's largest value: a longer one is a broken length.
const STORED_VALUE_BYTES_MAX: usize = 64 << 20;

/// Makes sure that the journals in the store's `directory` are whole, and cuts the broken end of the newest, if there is one: says how many
/// bytes that were not zero fell away. A directory that another process has open is left alone.
///
/// An error of the kind [`io::ErrorKind::InvalidData`] names what is damaged.
pub(crate) fn cut_broken_tail(directory: &Path) -> io::Result<u64> {
    let Some(_lock) = locked(directory)? else { return Ok(0) };
    let journals = journals(directory)?;
    let Some(((_, newest), older)) = journals.split_last() else {
        return Err(damage(directory, "the journal is missing"));
    };
    for pair in journals.windows(2) {
        if pair[0].0 + 1 != pair[1].0 {
            return Err(damage(
                directory,
                &format!("the journals between {} and {} are missing", pair[0].0, pair[1].0),
            ));
        }
    }
    let mut last = None;
    for (_, journal) in older {
        let file = File::open(journal)?;
        let whole = whole_batches(&file, &mut last)?;
        if count_nonzero(&file, whole)? > 0 {
            return Err(damage(journal, &format!("damaged at byte {whole}")));
        }
    }
    cut(newest, &mut last)
}

/// For whoever looks for what can be saved, in a copy: what stands behind damage in any of the journals goes, so that a state remains that
/// once was. Says how many bytes that were not zero fell away.
pub(crate) fn cut_behind_damage(directory: &Path) -> io::Result<u64> {
    let (mut last, mut lost) = (None, 0);
    let mut expected = None;
    for (number, journal) in journals(directory)? {
        if lost > 0 || expected.is_some_and(|expected| expected != number) {
            lost += count_nonzero(&File::open(&journal)?, 0)?;
            fs::remove_file(&journal)?;
        } else {
            lost += cut(&journal, &mut last)?;
            expected = Some(number + 1);
        }
    }
    Ok(lost)
}

/// Fjall's lock. None: another process has the store open.
fn locked(directory: &Path) -> io::Result<Option<File>> {
    let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(directory.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// By their numbers, the oldest first.
fn journals(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort_unstable();
    Ok(journals)
}

fn damage(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

fn cut(journal: &Path, last: &mut Option<u64>) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(journal)?;
    let whole = whole_batches(&file, last)?;
    let lost = count_nonzero(&file, whole)?;
    if lost > 0 {
        file.set_len(whole)?;
        file.sync_all()?;
    }
    Ok(lost)
}

/// Up to where the journal consists of whole batches. Their sequence numbers, which no checksum covers, must rise; `last` is that of the
/// last batch before.
fn whole_batches(file: &File, last: &mut Option<u64>) -> io::Result<u64> {
    let mut journal = Journal { input: BufReader::with_capacity(1 << 16, file), at: 0, buffer: Vec::new() };
    let mut whole = 0;
    loop {
        match journal.batch() {
            Ok(Some(number)) if last.is_none_or(|last| last < number) => {
                *last = Some(number);
                whole = journal.at;
            }
            Ok(_) => return Ok(whole),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(whole),
            Err(error) => return Err(error),
        }
    }
}

fn count_nonzero(file: &File, from: u64) -> io::Result<u64> {
    use std::io::Seek;

    let mut file = file;
    file.seek(io::SeekFrom::Start(from))?;
    let mut buffer = vec![0; 1 << 16];
    let mut count = 0;
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            return Ok(count);
        }
        count += buffer[..len].iter().filter(|byte| **byte != 0).count() as u64;
    }
}

struct Journal<R> {
    input: R,
    at: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Journal<R> {
    /// Reads a batch, and gives its sequence number. None: there is none, or a broken one.
    fn batch(&mut self) -> io::Result<Option<u64>> {
        if self.tag()? != START {
            return Ok(None);
        }
        let items = u32::from_le_bytes(self.array()?);
        let number = u64::from_le_bytes(self.array()?);
        let mut checksum = Xxh3::new();
        for _ in 0..items {
            if !self.item(&mut checksum)? {
                return Ok(None);
            }
        }
        if self.tag()? != END {
            return Ok(None);
        }
        let expected = u64::from_le_bytes(self.array()?);
        let is_whole = self.array()? == TRAILER && checksum.digest() == expected;
        Ok(is_whole.then_some(number))
    }

    fn item(&mut self, checksum: &mut Xxh3) -> io::Result<bool> {
        let tag = self.tag()?;
        checksum.update(&[tag]);
        match tag {
            CLEAR => checksum.update(&self.array::<8>()?),
            ITEM => {
                let head: [u8; 1 + 1 + 8 + 2 + 4 + 4] = self.array()?;
                checksum.update(&head);
                let key_len = u16::from_le_bytes([head[10], head[11]]);
                let stored_len = u32::from_le_bytes([head[16], head[17], head[18], head[19]]) as usize;
                if stored_len > STORED_VALUE_BYTES_MAX {
                    return Ok(false);
                }
                self.bytes(usize::from(key_len) + stored_len)?;
                checksum.update(&self.buffer);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn tag(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const LEN: usize>(&mut self) -> io::Result<[u8; LEN]> {
        let mut bytes = [0; LEN];
        self.input.read_exact(&mut bytes)?;
        self.at += LEN as u64;
        Ok(bytes)
    }

    fn bytes(&mut self, len: usize) -> io::Result<()> {
        self.buffer.resize(len, 0);
        self.input.read_exact(&mut self.buffer)?;
        self.at += len as u64;
        Ok(())
    }
}
