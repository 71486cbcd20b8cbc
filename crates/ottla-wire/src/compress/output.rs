//! The buffer that decompressed bytes grow into, never past the budget.

use bytes::Bytes;

use super::codec::Compression;
use super::error::DecompressError;

/// Output of one decompression, bounded by a budget in bytes.
///
/// Memory follows the bytes that were really produced: it at least doubles when it grows, so a
/// lying size field costs nothing and an honest stream is copied a constant number of times.
pub(super) struct Output {
    bytes: Vec<u8>,
    limit: usize,
    compression: Compression,
    input_len: usize,
}

impl Output {
    pub(super) fn new(compression: Compression, input_len: usize, limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            compression,
            input_len,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that may still be produced.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// Everything produced so far, and the zeroed next `len` bytes to write into; call
    /// [`Self::keep`] with what was written of them.
    ///
    /// # Errors
    /// Over budget when fewer than `len` bytes are left.
    pub(super) fn grow(&mut self, len: usize) -> Result<(&[u8], &mut [u8]), DecompressError> {
        if len > self.room() {
            return Err(self.over_budget());
        }
        self.reserve(len);
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        let (done, next) = self.bytes.split_at_mut(start);
        Ok((done, next))
    }

    /// Drops what of the last [`Self::grow`] was not written, leaving `len` bytes in all.
    pub(super) fn keep(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), DecompressError> {
        if bytes.len() > self.room() {
            return Err(self.over_budget());
        }
        self.reserve(bytes.len());
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The vector itself, with room for between one and `wanted` more bytes, never past the
    /// budget; for codecs that write into spare capacity.
    ///
    /// # Errors
    /// Over budget when no byte is left.
    pub(super) fn spare(&mut self, wanted: usize) -> Result<&mut Vec<u8>, DecompressError> {
        let wanted = wanted.min(self.room());
        if wanted == 0 {
            return Err(self.over_budget());
        }
        if self.bytes.capacity() == self.bytes.len() {
            self.reserve(wanted);
        }
        Ok(&mut self.bytes)
    }

    /// Makes room for `wanted` more bytes, and for as many again as there are, but not for more
    /// than the budget allows.
    fn reserve(&mut self, wanted: usize) {
        if self.bytes.capacity() - self.bytes.len() < wanted {
            let more = wanted.max(self.bytes.len()).min(self.room());
            self.bytes.reserve_exact(more);
        }
    }

    pub(super) fn over_budget(&self) -> DecompressError {
        DecompressError::OverBudget {
            compression: self.compression,
            len: self.input_len,
            limit: self.limit,
        }
    }

    pub(super) fn corrupt(&self, reason: impl Into<String>) -> DecompressError {
        DecompressError::corrupt(self.compression, reason)
    }

    pub(super) fn produced(&self) -> &[u8] {
        &self.bytes
    }

    /// The output, in a buffer not much larger than it.
    pub(super) fn finish(mut self) -> Result<Bytes, DecompressError> {
        if self.bytes.len() > self.limit {
            return Err(self.over_budget());
        }
        if self.bytes.capacity() / 2 > self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
        Ok(Bytes::from(self.bytes))
    }
}
