//! Buffers that wait for the next batch, so that a busy producer neither allocates nor faults in
//! memory.
//!
//! Bounded: what is kept idle never exceeds a share of `buffer.memory`. Anything beyond is freed.

use std::collections::VecDeque;

use ottla_wire::Bytes;
use parking_lot::Mutex;

use crate::budget::Reserved;

type BytesMut = bytes::BytesMut;

#[derive(Debug)]
pub(crate) struct Buffers {
    idle: Mutex<Idle>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Idle {
    /// The one returned last at the end.
    buffers: VecDeque<BytesMut>,
    bytes: usize,
}

impl Buffers {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            idle: Mutex::default(),
            bytes_max,
        }
    }

    /// A buffer for as many bytes as `memory` covers; a larger one, up to twice as large, if there is one and `memory` can grow to
    /// cover it.
    pub(crate) fn take(&self, memory: &mut Reserved) -> BytesMut {
        let wanted = memory.bytes();
        if let Some(buffer) = self.take_idle(wanted, usize::MAX) {
            let more = buffer.capacity() - wanted;
            if more == 0 || memory.try_grow(more) {
                return buffer;
            }
            self.give_back(buffer);
        }
        BytesMut::with_capacity(wanted)
    }

    /// A buffer for `wanted` bytes, with room for no more than `bytes_max`.
    pub(crate) fn take_within(&self, wanted: usize, bytes_max: usize) -> BytesMut {
        self.take_idle(wanted, bytes_max)
            .unwrap_or_else(|| BytesMut::with_capacity(wanted))
    }

    /// A buffer of which `wanted` bytes are at least a half.
    fn take_idle(&self, wanted: usize, bytes_max: usize) -> Option<BytesMut> {
        if wanted < KEPT_MIN {
            return None;
        }
        let room = wanted..=wanted.saturating_mul(2).min(bytes_max);
        let mut idle = self.idle.lock();
        // The last one returned is the one most likely in cache; a short look for one that fits.
        let from = idle.buffers.len().saturating_sub(LOOKS);
        let fits = |buffer: &BytesMut| room.contains(&buffer.capacity());
        let found = idle.buffers.range(from..).rposition(fits)?;
        let buffer = idle.buffers.remove(from + found)?;
        idle.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Takes a buffer back, if it is worth keeping, with its content: what was once filled need not be filled again. Lets go of those
    /// that lay idle longest where there are too many.
    pub(crate) fn give_back(&self, buffer: BytesMut) {
        // What is left of a buffer whose front was split away can be reclaimed by `reserve`, but is not
        // counted in its capacity; ours are never split.
        let capacity = buffer.capacity();
        if !(KEPT_MIN..=self.bytes_max).contains(&capacity) {
            return;
        }
        let mut let_go = Vec::new();
        let mut idle = self.idle.lock();
        while idle.bytes + capacity > self.bytes_max
            && let Some(oldest) = idle.buffers.pop_front()
        {
            idle.bytes -= oldest.capacity();
            let_go.push(oldest);
        }
        idle.bytes += capacity;
        idle.buffers.push_back(buffer);
        drop(idle); // Before the memory is freed, which takes long.
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
const LOOKS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn take(buffers: &Buffers, bytes: usize) -> (BytesMut, Reserved) {
        let mut memory = Budget::new(1 << 20).try_reserve(bytes).unwrap();
        (buffers.take(&mut memory), memory)
    }

    #[test]
    fn a_returned_buffer_is_used_again_if_the_reservation_can_cover_it() {
        let buffers = Buffers::new(1 << 20);
        let (first, _) = take(&buffers, 64 << 10);
        let (at, capacity) = (first.as_ptr(), first.capacity());
        buffers.give_back(first);
        assert_ne!(take(&buffers, 16 << 10).0.as_ptr(), at, "far too large");

        let tight = Budget::new(50 << 10);
        let mut memory = tight.try_reserve(40 << 10).unwrap();
        assert_ne!(buffers.take(&mut memory).as_ptr(), at, "not covered");
        assert_eq!(memory.bytes(), 40 << 10);

        let (again, memory) = take(&buffers, 40 << 10);
        assert_eq!((again.as_ptr(), memory.bytes()), (at, capacity));

        let sent = again.freeze();
        let shared = sent.clone();
        buffers.give_back_frozen(sent);
        assert_ne!(take(&buffers, capacity).0.as_ptr(), at, "still shared");
        drop(shared);
    }

    #[test]
    fn a_buffer_for_what_is_reserved_has_room_for_no_more() {
        let buffers = Buffers::new(1 << 20);
        buffers.give_back(BytesMut::with_capacity(64 << 10));
        let (wanted, capacity) = (40 << 10, 64 << 10);
        assert_eq!(buffers.take_within(wanted, capacity - 1).capacity(), wanted);
        assert_eq!(buffers.take_within(wanted, capacity).capacity(), capacity);
        assert_eq!(
            buffers.take_within(wanted, capacity).capacity(),
            wanted,
            "there was one"
        );
    }

    #[test]
    fn idle_memory_is_bounded_and_the_newest_is_kept() {
        let buffers = Buffers::new(100 << 10);
        for _ in 0..10 {
            buffers.give_back(BytesMut::with_capacity(32 << 10));
        }
        assert_eq!(buffers.idle.lock().buffers.len(), 3);
        let newest = BytesMut::with_capacity(20 << 10);
        let at = newest.as_ptr();
        buffers.give_back(newest);
        assert_eq!(take(&buffers, 20 << 10).0.as_ptr(), at);
        buffers.give_back(BytesMut::with_capacity(200 << 10));
        assert!(buffers.idle.lock().bytes <= 100 << 10);
    }
}
