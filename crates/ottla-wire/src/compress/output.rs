//! The buffer that decompressed bytes grow into, never past the budget.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::codec::Compression;
use super::error::DecompressError;

/// Output of one decompression, bounded by a budget in bytes.
///
/// Memory follows the bytes that were really produced: it at least doubles when it grows, so a
/// lying size field costs nothing and an honest stream is copied a constant number of times. A
/// buffer from [`Spares`] saves the growing, the zeroing, and the page faults of fresh memory.
pub(super) struct Output {
    /// Initialised as far as it was ever written or zeroed; what counts ends at `filled`.
    bytes: Vec<u8>,
    /// Never beyond `bytes.len()`.
    filled: usize,
    limit: usize,
    compression: Compression,
    input_len: usize,
    spares: Option<Spares>,
}

impl Output {
    /// An output that begins with nothing.
    #[cfg(all(test, feature = "zstd-c"))]
    pub(super) fn new(compression: Compression, input_len: usize, limit: usize) -> Self {
        Self::with_buffer(compression, input_len, limit, Vec::new(), None)
    }

    /// An output into `bytes`, whose contents do not count. `spares` gets the buffer back when the
    /// last user of the finished bytes is gone.
    pub(super) fn with_buffer(
        compression: Compression,
        input_len: usize,
        limit: usize,
        bytes: Vec<u8>,
        spares: Option<Spares>,
    ) -> Self {
        Self {
            bytes,
            filled: 0,
            limit,
            compression,
            input_len,
            spares,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.filled
    }

    /// Bytes that may still be produced.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.filled)
    }

    /// Everything produced so far, and the next `len` bytes to write into, which hold anything; call
    /// [`Self::keep`] with what was written of them.
    ///
    /// # Errors
    /// Over budget when fewer than `len` bytes are left.
    pub(super) fn grow(&mut self, len: usize) -> Result<(&[u8], &mut [u8]), DecompressError> {
        if len > self.room() {
            return Err(self.over_budget());
        }
        let (start, end) = (self.filled, self.filled + len);
        if self.bytes.len() < end {
            self.reserve(len);
            self.bytes.resize(end, 0);
        }
        self.filled = end;
        let (done, next) = self.bytes[..end].split_at_mut(start);
        Ok((done, next))
    }

    /// Drops what of the last [`Self::grow`] was not written, leaving `len` bytes in all.
    pub(super) fn keep(&mut self, len: usize) {
        self.filled = self.filled.min(len);
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), DecompressError> {
        if bytes.len() > self.room() {
            return Err(self.over_budget());
        }
        let end = self.filled + bytes.len();
        match self.bytes.get_mut(self.filled..end) {
            Some(place) => place.copy_from_slice(bytes),
            None => {
                self.reserve(bytes.len());
                self.bytes.truncate(self.filled);
                self.bytes.extend_from_slice(bytes);
            }
        }
        self.filled = end;
        Ok(())
    }

    /// Lets `write` append to the vector itself, which has room for between one and `wanted` more
    /// bytes, never past the budget; for codecs that write into spare capacity.
    ///
    /// # Errors
    /// Over budget when no byte is left.
    pub(super) fn append_with<T>(
        &mut self,
        wanted: usize,
        write: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<T, DecompressError> {
        let room = self.room();
        if room == 0 || wanted == 0 {
            return Err(self.over_budget());
        }
        self.bytes.truncate(self.filled);
        if self.bytes.capacity() == self.filled {
            self.reserve(wanted.min(room));
        }
        // A buffer that was used before may have more room than the budget has.
        let written = if self.bytes.capacity() - self.filled > room {
            let mut limited = Vec::with_capacity(room);
            let written = write(&mut limited);
            self.bytes.extend_from_slice(&limited);
            written
        } else {
            write(&mut self.bytes)
        };
        self.filled = self.bytes.len();
        Ok(written)
    }

    /// Makes room for `wanted` more bytes, and for as many again as there are, but not for more
    /// than the budget allows.
    fn reserve(&mut self, wanted: usize) {
        if self.bytes.capacity() - self.filled < wanted {
            let more = wanted.max(self.filled).min(self.room());
            self.bytes.truncate(self.filled);
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
        &self.bytes[..self.filled]
    }

    /// The output, in a buffer not much larger than it.
    pub(super) fn finish(mut self) -> Result<Bytes, DecompressError> {
        if self.filled > self.limit {
            return Err(self.over_budget());
        }
        let Some(spares) = self.spares.take().filter(|_| self.filled >= SPARE_LEN_MIN) else {
            self.bytes.truncate(self.filled);
            if self.bytes.capacity() / 2 > self.filled {
                self.bytes.shrink_to_fit();
            }
            return Ok(Bytes::from(self.bytes));
        };
        if self.bytes.capacity() / 2 > self.filled {
            // The large buffer serves the next large batch; who keeps this one keeps no more than it.
            let exact = Bytes::copy_from_slice(&self.bytes[..self.filled]);
            spares.give_back(self.bytes);
            return Ok(exact);
        }
        Ok(Bytes::from_owner(Lent {
            bytes: self.bytes,
            filled: self.filled,
            spares,
        }))
    }
}

/// Buffers of earlier batches that nobody reads any more, for later ones. Clones share them.
///
/// At most [`SPARES_LEN_MAX`] bytes are kept, in at most [`SPARES_MAX`] buffers.
#[derive(Clone, Default)]
pub(super) struct Spares {
    buffers: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Spares {
    /// The smallest spare buffer of at least `len` bytes, else the largest there is, else none.
    pub(super) fn take(&self, len: usize) -> Option<Vec<u8>> {
        if len < SPARE_LEN_MIN {
            return None;
        }
        let mut buffers = self.lock();
        let fits = |buffer: &Vec<u8>| buffer.capacity() >= len;
        let best = (0..buffers.len())
            .filter(|i| fits(&buffers[*i]))
            .min_by_key(|i| buffers[*i].capacity())
            .or_else(|| (0..buffers.len()).max_by_key(|i| buffers[*i].capacity()))?;
        Some(buffers.swap_remove(best))
    }

    fn give_back(&self, bytes: Vec<u8>) {
        if bytes.capacity() < SPARE_LEN_MIN {
            return;
        }
        let mut buffers = self.lock();
        let kept: usize = buffers.iter().map(Vec::capacity).sum();
        if buffers.len() < SPARES_MAX && kept + bytes.capacity() <= SPARES_LEN_MAX {
            buffers.push(bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        // Nothing that can panic runs under the lock.
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer in use that goes back to its [`Spares`] with its last reader.
struct Lent {
    bytes: Vec<u8>,
    filled: usize,
    spares: Spares,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.spares.give_back(std::mem::take(&mut self.bytes));
    }
}

/// How many buffers are kept for later.
const SPARES_MAX: usize = 16;

/// Smaller buffers are cheaper from the allocator.
const SPARE_LEN_MIN: usize = 64 * 1024;

/// How many bytes are kept for later.
const SPARES_LEN_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn output(spares: &Spares, limit: usize) -> Output {
        let bytes = spares.take(SPARE_LEN_MIN).unwrap_or_default();
        Output::with_buffer(Compression::Lz4, 1, limit, bytes, Some(spares.clone()))
    }

    #[test]
    fn a_buffer_comes_back_with_its_last_reader_and_shows_nothing_of_its_past() {
        let spares = Spares::default();
        let mut first = output(&spares, 1 << 20);
        first.extend(&[7; 100_000]).unwrap();
        let first = first.finish().unwrap();
        let reader = first.slice(10..20);
        drop(first);
        assert!(spares.take(SPARE_LEN_MIN).is_none(), "still being read");
        let address = reader.as_ptr() as usize - 10;
        drop(reader);
        let mut second = output(&spares, 1 << 20);
        second.extend(&[1; 70_000]).unwrap();
        let (_, target) = second.grow(10).unwrap();
        target[..4].copy_from_slice(&[2; 4]);
        second.keep(70_004);
        let second = second.finish().unwrap();
        assert_eq!(second.as_ptr() as usize, address, "the same memory");
        assert_eq!(second.len(), 70_004);
        assert!(second[..70_000].iter().all(|byte| *byte == 1) && second[70_000..] == [2; 4]);
    }

    #[test]
    fn a_used_buffer_gives_no_room_beyond_the_budget() {
        let spares = Spares::default();
        let mut large = output(&spares, 1 << 20);
        large.extend(&[7; 200_000]).unwrap();
        drop(large.finish().unwrap());
        let mut small = output(&spares, 100_000);
        assert_eq!(small.room(), 100_000);
        assert!(small.grow(100_001).is_err());
        small
            .append_with(100_000, |bytes| {
                assert!(bytes.capacity() - bytes.len() <= 100_000);
                bytes.extend_from_slice(&[3; 99_999]);
            })
            .unwrap();
        assert_eq!((small.len(), small.room()), (99_999, 1));
        assert!(small.extend(&[3; 2]).is_err());
        small.extend(&[4]).unwrap();
        assert_eq!(small.produced()[99_998..], [3, 4]);
    }

    #[test]
    fn what_is_kept_for_later_is_bounded() {
        let spares = Spares::default();
        for len in [SPARE_LEN_MIN, SPARES_LEN_MAX / 4, SPARES_LEN_MAX + 1] {
            (0..2 * SPARES_MAX).for_each(|_| spares.give_back(Vec::with_capacity(len)));
            let buffers = std::mem::take(&mut *spares.lock());
            let kept: usize = buffers.iter().map(Vec::capacity).sum();
            assert!(
                kept <= SPARES_LEN_MAX && buffers.len() <= SPARES_MAX,
                "{kept}"
            );
            assert_eq!(buffers.is_empty(), len > SPARES_LEN_MAX);
        }
    }

    #[test]
    fn a_small_batch_does_not_keep_a_large_buffer() {
        let spares = Spares::default();
        let mut large = output(&spares, 1 << 20);
        large.extend(&[7; 500_000]).unwrap();
        drop(large.finish().unwrap());
        let mut small = output(&spares, 1 << 20);
        small.extend(&[7; 70_000]).unwrap();
        let _kept = small.finish().unwrap();
        assert!(
            spares
                .take(500_000)
                .is_some_and(|buffer| buffer.capacity() >= 500_000)
        );
    }
}
