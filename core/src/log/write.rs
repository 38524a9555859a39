//! A batch on its way to the disk: encoded once, straight into the buffer that is written.

use super::batch::{BATCH_HEADER_BYTES, BatchHeader};
use super::{Record, SegmentId};

/// A batch with its place, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWrite {
    /// The file.
    pub segment: SegmentId,
    /// Where in it, in bytes; a multiple of [`super::BLOCK_BYTES`].
    pub offset: u64,
    pub(super) header: BatchHeader,
    pub(super) records: Vec<Record>,
    pub(super) seed: u32,
}

impl LogWrite {
    /// How many bytes are to be written; a multiple of [`super::BLOCK_BYTES`], never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.header.padded_bytes()
    }

    /// Writes the batch into `buffer`, every byte of it.
    ///
    /// # Panics
    /// If the buffer's length is not [`LogWrite::len`].
    pub fn encode_into(&self, buffer: &mut [u8]) {
        assert_eq!(buffer.len(), self.len(), "the buffer is as long as the write");
        let mut rest = &mut buffer[BATCH_HEADER_BYTES..];
        for record in &self.records {
            record.encode(&mut rest);
        }
        self.header.finish(self.seed, buffer);
    }

    /// Whether it holds terms and votes alone.
    pub fn is_promise(&self) -> bool {
        self.records.iter().all(|record| matches!(record, Record::HardState(..)))
    }

    /// Its number in its chain, for traces.
    pub fn sequence(&self) -> u64 {
        self.header.sequence
    }
}
