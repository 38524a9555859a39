//! Bounded reads from a buffer that came from a disk or a peer. Slices share the buffer; nothing is copied.

use bytes::{Buf, Bytes};

use crate::machine::DecodeError;

const TRUNCATED: DecodeError = DecodeError("the bytes end too early");

/// A place in a buffer. Numbers are little-endian.
pub(crate) struct Cursor {
    rest: Bytes,
}

impl Cursor {
    pub(crate) fn new(bytes: Bytes) -> Cursor {
        Cursor { rest: bytes }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.rest.try_get_u8().map_err(|_| TRUNCATED)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.rest.try_get_u16_le().map_err(|_| TRUNCATED)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.rest.try_get_u32_le().map_err(|_| TRUNCATED)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.rest.try_get_u64_le().map_err(|_| TRUNCATED)
    }

    /// A number that is there when `present`.
    pub(crate) fn optional_u64(&mut self, present: bool) -> Result<Option<u64>, DecodeError> {
        if present { self.u64().map(Some) } else { Ok(None) }
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.rest.len() {
            return Err(TRUNCATED);
        }
        Ok(self.rest.split_to(len))
    }

    /// How many bytes are left.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// All that is left.
    pub(crate) fn into_rest(self) -> Bytes {
        self.rest
    }

    /// Refuses what is left over.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError("there are bytes behind the end")) }
    }
}

/// Refuses flags that this version does not know: they would change the meaning.
pub(crate) fn known_flags(flags: u8, known: u8) -> Result<u8, DecodeError> {
    if flags & !known == 0 { Ok(flags) } else { Err(DecodeError("unknown flags")) }
}
