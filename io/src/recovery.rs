//! A node's log as it lies on disk: which files there are, and what they come to.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use drey_core::NodeId;
use drey_core::log::{LogScan, RecoveredLog, SegmentId};

use crate::identity::Identity;
use crate::log_files::SEGMENT_SUFFIX;
use crate::node::StartError;

/// The segments in a directory, in order.
pub(crate) fn segments(directory: &Path) -> Result<Vec<(SegmentId, PathBuf)>, StartError> {
    let failed = |source| StartError::Io { operation: format!("list {}", directory.display()), source };
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // Names that are not text are nobody's here.
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !name.ends_with(SEGMENT_SUFFIX) {
            continue;
        }
        let segment = SegmentId::parse(name).ok_or_else(|| {
            StartError::Invalid(format!("{} holds {name}, which is no log segment", directory.display()))
        })?;
        segments.push((segment, path));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Reads a segment whole into `bytes`, whose room is used again.
pub(crate) fn read(path: &Path, bytes: &mut Vec<u8>) -> Result<(), StartError> {
    bytes.clear();
    let mut read = || File::open(path)?.read_to_end(bytes);
    let done: io::Result<usize> = read();
    done.map(drop).map_err(|source| StartError::Io { operation: format!("read {}", path.display()), source })
}

/// Reads all segments. Nothing is written: how the chains are to be ended is in what comes back.
pub(crate) fn scan(identity: &Identity, segments: &[(SegmentId, PathBuf)]) -> Result<RecoveredLog, StartError> {
    let mut scan = LogScan::new(identity.cluster(), NodeId(identity.node));
    let mut bytes = Vec::new();
    for (segment, path) in segments {
        read(path, &mut bytes)?;
        scan.segment(*segment, &bytes).map_err(StartError::Damaged)?;
    }
    scan.finish().map_err(StartError::Damaged)
}
