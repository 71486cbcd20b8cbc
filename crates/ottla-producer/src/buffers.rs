//! Buffers that wait for the next batch, so that a busy producer neither allocates nor faults in
//! memory.
//!
//! Bounded: what is kept idle never exceeds a share of `buffer.memory`. Anything beyond is freed.

use ottla_wire::Bytes;
use parking_lot::Mutex;

type BytesMut = bytes::BytesMut;

#[derive(Debug)]
pub(crate) struct Buffers {
    idle: Mutex<Idle>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<BytesMut>,
    bytes: usize,
}

impl Buffers {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            idle: Mutex::default(),
            bytes_max,
        }
    }

    /// A buffer for about `wanted` bytes and never above `allowed`, which is how many the caller's
    /// reservation covers.
    pub(crate) fn take(&self, wanted: usize, allowed: usize) -> BytesMut {
        if wanted >= KEPT_MIN {
            let mut idle = self.idle.lock();
            // The last one returned is the one most likely in cache; a short look for one that fits.
            let from = idle.buffers.len().saturating_sub(LOOKS);
            let fits = |buffer: &BytesMut| (wanted / 2..=allowed).contains(&buffer.capacity());
            if let Some(found) = idle.buffers[from..].iter().rposition(fits) {
                let buffer = idle.buffers.swap_remove(from + found);
                idle.bytes -= buffer.capacity();
                return buffer;
            }
        }
        BytesMut::with_capacity(wanted)
    }

    /// Takes a buffer back, if it is worth keeping.
    pub(crate) fn give_back(&self, mut buffer: BytesMut) {
        buffer.clear();
        // What is left of a buffer whose front was split away can be reclaimed by `reserve`, but is not
        // counted in its capacity; ours are never split.
        let capacity = buffer.capacity();
        let mut idle = self.idle.lock();
        if capacity >= KEPT_MIN && idle.bytes + capacity <= self.bytes_max {
            idle.bytes += capacity;
            idle.buffers.push(buffer);
        }
    }

    /// Takes back a sent batch's bytes, unless somebody still holds a share of them.
    pub(crate) fn give_back_frozen(&self, bytes: Bytes) {
        if bytes.len() >= KEPT_MIN / 2
            && let Ok(buffer) = bytes.try_into_mut()
        {
            self.give_back(buffer);
        }
    }
}

/// Smaller ones cost less to allocate than to keep.
const KEPT_MIN: usize = 8 << 10;
const LOOKS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_used_again_if_it_fits_the_reservation() {
        let buffers = Buffers::new(1 << 20);
        let first = buffers.take(64 << 10, 64 << 10);
        let (at, capacity) = (first.as_ptr(), first.capacity());
        buffers.give_back(first);
        assert_ne!(
            buffers.take(16 << 10, 16 << 10).as_ptr(),
            at,
            "above the reservation"
        );
        let again = buffers.take(capacity, capacity);
        assert_eq!(again.as_ptr(), at);

        let sent = again.freeze();
        let shared = sent.clone();
        buffers.give_back_frozen(sent);
        assert_ne!(
            buffers.take(capacity, capacity).as_ptr(),
            at,
            "still shared"
        );
        drop(shared);
    }

    #[test]
    fn idle_memory_is_bounded() {
        let buffers = Buffers::new(100 << 10);
        for _ in 0..10 {
            buffers.give_back(BytesMut::with_capacity(32 << 10));
        }
        assert_eq!(buffers.idle.lock().buffers.len(), 3);
    }
}
