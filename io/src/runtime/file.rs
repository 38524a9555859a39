//! A file that is written in whole blocks and synced, past the page cache where the file system allows it: what the
//! log is made of.
//!
//! A write and then a sync, although one write with `O_DSYNC` would save a trip through the executor: on ext4 over a
//! disk with a volatile cache that one took 0.2 to 0.8 ms for a block, and the two took 0.1 ms.

use std::{
    cell::Cell,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use glommio::{
    GlommioError,
    io::{BufferedFile, DmaBuffer, DmaFile, OpenOptions},
};

/// Writes are whole blocks at multiples of this, in bytes.
pub const BLOCK: usize = 4_096;

/// How often a write that came back with an unknown outcome is made again before it is reported as failed.
const UNKNOWN_MAX: u32 = 100;

thread_local! {
    static UNKNOWN: Cell<u64> = const { Cell::new(0) };
}

/// How many writes and syncs on this executor came back as cancelled, though nobody cancelled them, and were made
/// again. Anything but 0 says that the rings are too small for the connections
/// ([`super::ExecutorConfig::connections_max`]).
pub fn unknown_outcomes() -> u64 {
    UNKNOWN.get()
}

/// An open file. Belongs to the executor that opened it.
#[derive(Clone, Debug)]
pub struct AlignedFile {
    file: File,
    path: PathBuf,
}

#[derive(Clone, Debug)]
enum File {
    /// Past the page cache.
    Direct(Rc<DmaFile>),
    /// Through it, where the file system knows nothing else.
    Buffered(Rc<BufferedFile>),
}

/// Bytes that a file can be written from, see [`AlignedFile::fill`].
#[derive(Debug)]
pub struct AlignedBuffer {
    memory: Memory,
    length: usize,
}

#[derive(Debug)]
enum Memory {
    Direct(Rc<DmaBuffer>),
    Buffered(Vec<u8>),
}

impl AlignedFile {
    /// Opens a file that exists, holds at least one block, and was synced: an empty one would mislead the runtime
    /// about its device.
    pub async fn open(path: &Path) -> io::Result<AlignedFile> {
        let metadata = fs::metadata(path)?;
        if metadata.len() < BLOCK as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file holds less than one block"));
        }
        if device_is_described(metadata.dev()) {
            match OpenOptions::new().read(true).write(true).dma_open(path).await.map_err(system_error) {
                Ok(file) => return Ok(AlignedFile { file: File::Direct(Rc::new(file)), path: path.to_owned() }),
                // The file system has no direct I/O.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {}
                Err(error) => return Err(error),
            }
        }
        Self::open_buffered(path).await
    }

    pub(super) async fn open_buffered(path: &Path) -> io::Result<AlignedFile> {
        let file = OpenOptions::new().read(true).write(true).buffered_open(path).await.map_err(system_error)?;
        Ok(AlignedFile { file: File::Buffered(Rc::new(file)), path: path.to_owned() })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether writes go past the page cache.
    pub fn is_direct(&self) -> bool {
        matches!(self.file, File::Direct(_))
    }

    /// A buffer of `length` bytes, a multiple of [`BLOCK`] and not 0, of which `fill` writes every byte.
    pub fn fill(&self, length: usize, fill: impl FnOnce(&mut [u8])) -> io::Result<AlignedBuffer> {
        if length == 0 || !length.is_multiple_of(BLOCK) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not whole blocks"));
        }
        let memory = match &self.file {
            File::Direct(file) => {
                let mut buffer = file.alloc_dma_buffer(length);
                fill(buffer.as_bytes_mut());
                Memory::Direct(Rc::new(buffer))
            }
            File::Buffered(_) => {
                let mut buffer = vec![0; length];
                fill(&mut buffer);
                Memory::Buffered(buffer)
            }
        };
        Ok(AlignedBuffer { memory, length })
    }

    /// Writes a buffer that this file filled at `offset`, a multiple of [`BLOCK`], and syncs it. On success the bytes
    /// are on the disk. On failure nothing is known of them, and the file must not be written again: the kernel
    /// reports a failed sync once. Never drop the future ([`super::spawn_uncancelled`] is for this).
    pub async fn write_synced(&self, offset: u64, buffer: &AlignedBuffer) -> io::Result<()> {
        if !offset.is_multiple_of(BLOCK as u64) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not at a block's start"));
        }
        for _ in 0..UNKNOWN_MAX {
            match self.write_and_sync(offset, buffer).await {
                // Another operation's late cancellation hit this one. It may have been carried out or not.
                Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => UNKNOWN.set(UNKNOWN.get() + 1),
                result => return result,
            }
        }
        Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
    }

    async fn write_and_sync(&self, offset: u64, buffer: &AlignedBuffer) -> io::Result<()> {
        let written = match (&self.file, &buffer.memory) {
            (File::Direct(file), Memory::Direct(bytes)) => file.write_rc_at(Rc::clone(bytes), offset).await,
            (File::Buffered(file), Memory::Buffered(bytes)) => file.write_at(bytes.clone(), offset).await,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "another file filled this buffer")),
        };
        if written.map_err(system_error)? != buffer.length {
            // The segment was allocated in full, so this is no matter of space.
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the write was cut short"));
        }
        match &self.file {
            File::Direct(file) => file.fdatasync().await,
            File::Buffered(file) => file.fdatasync().await,
        }
        .map_err(system_error)
    }
}

/// What the system said, with its number, which glommio wraps.
fn system_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}

/// Whether `/sys` describes the device as glommio expects, which panics where it does not (as in some containers).
fn device_is_described(device: u64) -> bool {
    // glommio looks at the whole disk, whose minor number it takes to be 0; a device that is not there it takes for
    // memory.
    let directory = match fs::canonicalize(format!("/sys/dev/block/{}:0", libc::major(device))) {
        Ok(directory) => directory,
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    };
    let read = |name: &str| fs::read_to_string(directory.join("queue").join(name)).unwrap_or_default();
    let numbers = [
        "rotational",
        "minimum_io_size",
        "optimal_io_size",
        "logical_block_size",
        "physical_block_size",
        "max_sectors_kb",
        "max_segment_size",
    ];
    numbers.iter().all(|name| read(name).trim_matches('\n').parse::<isize>().is_ok())
        && matches!(read("write_cache").trim_matches('\n'), "write back" | "write through")
        && fs::read_dir(directory.join("slaves")).is_ok()
}
