//! Cuts what a power cut left of the unsynced end of fjall's journal, before fjall reads it.
//!
//! Blocks reach a disk in any order, so that a batch that was not synced may come back with a hole in it, and with whole batches
//! behind it. fjall 3.1.13 copes with most of this, but when the hole lies within one large value it refuses to open at
//! all (or, when built with debug assertions, may panic). So the newest journal is checked here first, and cut behind its last whole batch.
//! Older journals were synced when they were sealed: damage there stays fjall's to report.
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

/// Cuts the broken end of the newest journal in `directory`, if there is one, and says how many bytes that were not zero fell
/// away. A directory that another process has open is left alone.
pub(crate) fn cut_broken_tail(directory: &Path) -> io::Result<u64> {
    let lock = match OpenOptions::new().read(true).write(true).open(directory.join("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(0),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    match newest_journal(directory)? {
        Some(journal) => cut(&journal),
        None => Ok(0),
    }
}

fn newest_journal(directory: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        if let Some(number) = number {
            newest = newest.max(Some((number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

fn cut(journal: &Path) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(journal)?;
    let whole = whole_batches(&file)?;
    let lost = count_nonzero(&file, whole)?;
    if lost > 0 {
        file.set_len(whole)?;
        file.sync_all()?;
    }
    Ok(lost)
}

/// Up to where the journal consists of whole batches.
fn whole_batches(file: &File) -> io::Result<u64> {
    let mut journal = Journal { input: BufReader::with_capacity(1 << 16, file), at: 0, buffer: Vec::new() };
    let mut whole = 0;
    loop {
        match journal.batch() {
            Ok(true) => whole = journal.at,
            Ok(false) => return Ok(whole),
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
    /// Reads a batch. False: there is none, or a broken one.
    fn batch(&mut self) -> io::Result<bool> {
        if self.tag()? != START {
            return Ok(false);
        }
        let items = u32::from_le_bytes(self.array()?);
        let _sequence_number: [u8; 8] = self.array()?;
        let mut checksum = Xxh3::new();
        for _ in 0..items {
            if !self.item(&mut checksum)? {
                return Ok(false);
            }
        }
        if self.tag()? != END {
            return Ok(false);
        }
        let expected = u64::from_le_bytes(self.array()?);
        Ok(self.array()? == TRAILER && checksum.digest() == expected)
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
