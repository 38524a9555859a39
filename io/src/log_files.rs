//! The files under the write-ahead log: a directory of segments, all of one size.
//!
//! A segment is made whole before it is used: allocated, filled with zeros by real writes, its header in place, all
//! of it synced, and only then given its name. So a file with a segment's name is a segment, and writes to it
//! overwrite blocks that the file system has long placed: a sync then has no journal to commit, which makes it
//! several times as fast. Released segments are kept, up to a bound, and used again. Their old bytes remain; the
//! log's checksums cover the segment's id.
//!
//! A directory serves all shards of a node: clones are the same directory.

use std::{
    fs::{self, File, OpenOptions},
    future::Future,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use crate::{
    mailbox::{Reply, reply},
    runtime::{self, AlignedFile, BLOCK},
};

/// What the names of segments end with.
pub const SEGMENT_SUFFIX: &str = ".log";

/// What the names of released segments end with.
const SPARE_SUFFIX: &str = ".spare";

/// What the names of unfinished files end with.
const UNFINISHED_SUFFIX: &str = ".new";

/// How much is written at a time when a file is filled with zeros.
const FILL_BYTES: usize = 1 << 20;

/// An operation on a log file that failed. It is never made again: what is on the disk is not known any more.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the log's {}: {source}", .path.display())]
pub struct LogFileError {
    /// What was tried.
    pub operation: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl LogFileError {
    /// The system's error number, if it came from there.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// Puts operation and path to what the system said.
fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogFileError {
    move |source| LogFileError { operation, path: path.to_owned(), source }
}

/// A directory of segments.
#[derive(Clone, Debug)]
pub struct LogDirectory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    segment_bytes: u64,
    spares_max: usize,
    /// Released segments that can be used again: of the right size, their release synced.
    spares: Mutex<Vec<PathBuf>>,
    /// Names unfinished files.
    unfinished: AtomicU64,
}

impl LogDirectory {
    /// Opens a directory, and makes it if need be. Removes unfinished files, and spares beyond `spares_max` or of
    /// another size than `segment_bytes`, a multiple of [`BLOCK`]. Blocks: call it before the executors start.
    pub fn open(path: &Path, segment_bytes: u64, spares_max: usize) -> Result<LogDirectory, LogFileError> {
        if segment_bytes == 0 || !segment_bytes.is_multiple_of(BLOCK as u64) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a segment is whole blocks");
            return Err(failed("open", path)(error));
        }
        fs::create_dir_all(path).map_err(failed("create", path))?;
        if let Some(parent) = path.parent() {
            // `path` may be relative and of one part.
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            sync_directory(parent)?;
        }
        let found = entries(path)?;
        // A log without segments begins again with the first epoch: what is left of one could pass for its own.
        let spares_max_now = if found.iter().any(|(name, _)| name.ends_with(SEGMENT_SUFFIX)) { spares_max } else { 0 };
        let mut spares = Vec::new();
        for (name, entry) in found {
            let spare = name.ends_with(SPARE_SUFFIX);
            if spare && spares.len() < spares_max_now && entry.metadata().is_ok_and(|data| data.len() == segment_bytes)
            {
                spares.push(entry.path());
            } else if spare || name.ends_with(UNFINISHED_SUFFIX) {
                fs::remove_file(entry.path()).map_err(failed("delete", &entry.path()))?;
            }
        }
        // What made the spares, too, is to be on disk before they are used.
        sync_directory(path)?;
        let inner = Inner {
            path: path.to_owned(),
            segment_bytes,
            spares_max,
            spares: Mutex::new(spares),
            unfinished: AtomicU64::new(0),
        };
        Ok(LogDirectory { inner: Arc::new(inner) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The size of each segment that is made.
    pub fn segment_bytes(&self) -> u64 {
        self.inner.segment_bytes
    }

    /// How many released segments wait to be used again. With the segments in use, this is all the space that the log
    /// takes.
    pub fn spares(&self) -> usize {
        self.spare_list().len()
    }

    /// The names of all segments, sorted. Blocks.
    pub fn segments(&self) -> Result<Vec<String>, LogFileError> {
        let names = entries(&self.inner.path)?.into_iter().map(|(name, _)| name);
        let mut segments: Vec<String> = names.filter(|name| name.ends_with(SEGMENT_SUFFIX)).collect();
        segments.sort_unstable();
        Ok(segments)
    }

    /// Syncs a segment, writes `bytes` at `offset`, and syncs it again: how recovery ends a chain. Blocks.
    pub fn seal(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), LogFileError> {
        let path = self.segment_path(name)?;
        let seal = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.sync_all()?;
            file.write_all_at(bytes, offset)?;
            file.sync_all()
        };
        seal().map_err(failed("seal", &path))
    }

    /// Makes the segment `name`, from a spare if there is one, and opens it on this executor. `header` is its first
    /// bytes, at most one block, and is synced with it. Fails if the name is taken.
    pub async fn create(&self, name: &str, header: Vec<u8>) -> Result<Segment, LogFileError> {
        let path = self.segment_path(name)?;
        if header.len() > BLOCK {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a header is at most one block");
            return Err(failed("create", &path)(error));
        }
        let directory = self.clone();
        let made = runtime::blocking({
            let path = path.clone();
            move || directory.make(&path, header)
        });
        made.await.map_err(failed("create", &path))??;
        let file = AlignedFile::open(&path).await.map_err(failed("open", &path))?;
        Ok(Segment { file, bytes: self.inner.segment_bytes })
    }

    /// Keeps the segment `name` as a spare, or deletes it if there are enough. Nothing may be written to it any more.
    /// Once this is done a restart does not find it.
    pub async fn release(&self, name: &str) -> Result<(), LogFileError> {
        let path = self.segment_path(name)?;
        let directory = self.clone();
        let released = runtime::blocking({
            let path = path.clone();
            move || directory.retire(&path)
        });
        released.await.map_err(failed("release", &path))?
    }

    fn segment_path(&self, name: &str) -> Result<PathBuf, LogFileError> {
        let path = self.inner.path.join(name);
        if name.ends_with(SEGMENT_SUFFIX) && !name.contains('/') {
            return Ok(path);
        }
        Err(failed("use", &path)(io::Error::new(io::ErrorKind::InvalidInput, "not a segment's name")))
    }

    fn spare_list(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        // A panic cannot have left the list half changed.
        self.inner.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks: runs on the executor's thread for it.
    fn make(&self, path: &Path, header: Vec<u8>) -> Result<(), LogFileError> {
        if fs::exists(path).map_err(failed("create", path))? {
            return Err(failed("create", path)(io::ErrorKind::AlreadyExists.into()));
        }
        let spare = self.spare_list().pop();
        let source = match spare {
            Some(spare) => spare,
            None => {
                let number = self.inner.unfinished.fetch_add(1, Ordering::Relaxed);
                let unfinished = self.inner.path.join(format!("{number}{UNFINISHED_SUFFIX}"));
                allocate(&unfinished, self.inner.segment_bytes).map_err(|error| {
                    // Most likely no space is left: what there is of it goes back.
                    let _ = fs::remove_file(&unfinished);
                    failed("fill", &unfinished)(error)
                })?;
                unfinished
            }
        };
        let write_header = || {
            let mut block = header;
            block.resize(BLOCK, 0);
            let file = OpenOptions::new().write(true).open(&source)?;
            file.write_all_at(&block, 0)?;
            file.sync_all()?;
            // Pages left in memory would have every direct write wait for their removal.
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
            Ok(())
        };
        write_header().map_err(failed("write the header of", &source))?;
        fs::rename(&source, path).map_err(failed("name", path))?;
        sync_directory(&self.inner.path)
    }

    /// Blocks: runs on the executor's thread for it.
    fn retire(&self, path: &Path) -> Result<(), LogFileError> {
        let of_size = fs::metadata(path).map_err(failed("release", path))?.len() == self.inner.segment_bytes;
        if !of_size || self.spares() >= self.inner.spares_max {
            fs::remove_file(path).map_err(failed("delete", path))?;
            return sync_directory(&self.inner.path);
        }
        let mut spare = path.as_os_str().to_owned();
        spare.push(SPARE_SUFFIX);
        let spare = PathBuf::from(spare);
        fs::rename(path, &spare).map_err(failed("release", path))?;
        // Were it used before this, a crash could leave a file with its old name and its new header.
        sync_directory(&self.inner.path)?;
        self.spare_list().push(spare);
        Ok(())
    }
}

/// The files of a directory, by name. Names that are not text are nobody's here.
fn entries(path: &Path) -> Result<Vec<(String, fs::DirEntry)>, LogFileError> {
    let list = || {
        let entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries.into_iter().filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry))).collect())
    };
    list().map_err(failed("list", path))
}

fn sync_directory(path: &Path) -> Result<(), LogFileError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("sync", path))
}

/// Makes a file of `length` zeros, synced.
fn allocate(path: &Path, length: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length) {
        Ok(()) => {}
        // Then the zeros alone do it.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = vec![0; FILL_BYTES];
    let mut left = length;
    while left > 0 {
        let chunk = usize::try_from(left).unwrap_or(FILL_BYTES).min(FILL_BYTES);
        file.write_all(&zeros[..chunk])?;
        left -= chunk as u64;
    }
    file.sync_all()
}

/// An open segment. Belongs to the executor that made it.
#[derive(Clone, Debug)]
pub struct Segment {
    file: AlignedFile,
    bytes: u64,
}

impl Segment {
    /// Has `fill` write every byte of a buffer of `length` bytes, the memory that the disk reads, and starts to write
    /// it at `offset` and to sync it: whole blocks, within the segment. It goes on if the future is dropped, and the
    /// executor does not end before it is done. After a failure the segment must not be written again.
    pub fn write(&self, offset: u64, length: usize, fill: impl FnOnce(&mut [u8])) -> Written {
        let (sender, done) = reply();
        let within = offset.checked_add(length as u64).is_some_and(|end| end <= self.bytes);
        let buffer = if within {
            self.file.fill(length, fill)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "beyond the segment's end"))
        };
        let file = self.file.clone();
        runtime::spawn_uncancelled(async move {
            let result = match buffer {
                Ok(buffer) => file.write_synced(offset, &buffer).await,
                Err(error) => Err(error),
            };
            let result = result.map_err(failed("write", file.path()));
            if let Err(error) = &result {
                tracing::error!(%error, offset, length, "a log write failed");
            }
            // Nobody may be waiting any more.
            let _ = sender.send(result);
        });
        Written { done, path: self.file.path().to_owned() }
    }

    /// Whether writes go past the page cache.
    pub fn is_direct(&self) -> bool {
        self.file.is_direct()
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// Waits until a write is on the disk.
#[derive(Debug)]
pub struct Written {
    done: Reply<Result<(), LogFileError>>,
    path: PathBuf,
}

impl Future for Written {
    type Output = Result<(), LogFileError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done)
            .poll(context)
            .map(|done| done.unwrap_or_else(|gone| Err(failed("write", &self.path)(io::Error::other(gone)))))
    }
}
