//! A batch on its way into a log: copied once at most, and not at all if it is large and its request can be kept.

use bytes::{Buf, Bytes, BytesMut};

use super::header::{BatchHeader, CRC_COVERS_FROM, HEADER_LEN};

/// A record batch of format 2 whose fixed fields the broker may still change.
#[derive(Debug)]
pub(crate) struct Incoming {
    head: [u8; HEADER_LEN],
    batch: Held,
    /// A smaller batch is not kept as it is.
    kept_from: usize,
}

/// The whole batch, with the fixed fields as they came.
#[derive(Debug)]
enum Held {
    /// Others may hold these bytes too.
    Shared(Bytes),
    Alone(BytesMut),
}

impl Incoming {
    /// Takes the whole bytes of one batch; `None` if they are no batch.
    pub(crate) fn new(batch: &Bytes) -> Option<Self> {
        let incoming = Self {
            head: *batch.first_chunk()?,
            batch: Held::Shared(batch.clone()),
            kept_from: KEPT_WHOLE_FROM,
        };
        let header = incoming.header()?;
        (header.total_len() == batch.len()).then_some(incoming)
    }

    /// What the fixed fields say; `None` once they make no sense.
    pub(crate) fn header(&self) -> Option<BatchHeader> {
        BatchHeader::parse(&self.head)
    }

    /// The batch in two parts that stand one behind the other.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        [&self.head, self.records()]
    }

    /// A copy of the batch in one piece.
    pub(crate) fn to_bytes(&self) -> Bytes {
        self.parts().concat().into()
    }

    /// The batch itself, if it is large enough to be kept as it is and nobody else holds it. Then it is gone from here.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.batch {
            Held::Alone(bytes) if bytes.len() >= self.kept_from => {
                bytes[..HEADER_LEN].copy_from_slice(&self.head);
                Some(std::mem::take(bytes).freeze())
            }
            _ => None,
        }
    }

    /// Takes large batches over from the body of the request that they came in, of which they must be parts, in
    /// order. Without effect if anybody else still holds any of that, or if they are not most of it: whoever keeps
    /// one of them keeps the room of the whole body.
    pub(crate) fn take_over<'a>(batches: impl Iterator<Item = &'a mut Self>, body: Bytes) {
        // Each of those that keep the room must be worth a part of it: the others may be let go of long before.
        let kept_from = KEPT_WHOLE_FROM.max(body.len() / SHARERS_MAX);
        let mut found = Vec::new();
        let mut free_from = 0;
        let mut kept = 0;
        for incoming in batches {
            let Held::Shared(bytes) = &incoming.batch else {
                return;
            };
            let place = (bytes.as_ptr() as usize).checked_sub(body.as_ptr() as usize);
            let (Some(start), len) = (place, bytes.len()) else {
                return;
            };
            if start < free_from || start + len > body.len() {
                return;
            }
            free_from = start + len;
            if len >= kept_from {
                kept += len;
            }
            incoming.kept_from = kept_from;
            found.push((incoming, start, len));
        }
        if kept == 0 || kept < body.len() / 2 {
            return;
        }
        for (incoming, ..) in &mut found {
            incoming.batch = Held::Shared(Bytes::new());
        }
        match body.try_into_mut() {
            Ok(mut body) => {
                let mut at = 0;
                for (incoming, start, len) in found {
                    body.advance(start - at);
                    incoming.batch = Held::Alone(body.split_to(len));
                    at = start + len;
                }
            }
            Err(body) => {
                for (incoming, start, len) in found {
                    incoming.batch = Held::Shared(body.slice(start..start + len));
                }
            }
        }
    }

    /// Gives the batch its place. The checksum covers neither field.
    pub(super) fn place(&mut self, base_offset: i64, leader_epoch: i32) {
        self.head[..8].copy_from_slice(&base_offset.to_be_bytes());
        self.head[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    }

    /// Says what kind of time the records carry and what the newest is, and makes the checksum fit.
    pub(super) fn stamp(&mut self, log_append_time: bool, max_timestamp: i64) {
        self.head[ATTRIBUTES_AT + 1] &= !LOG_APPEND_TIME;
        if log_append_time {
            self.head[ATTRIBUTES_AT + 1] |= LOG_APPEND_TIME;
        }
        self.head[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8]
            .copy_from_slice(&max_timestamp.to_be_bytes());
        let head = crc32c::crc32c(&self.head[CRC_COVERS_FROM..]);
        let crc = crc32c::crc32c_append(head, self.records());
        self.head[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    }

    fn records(&self) -> &[u8] {
        let batch: &[u8] = match &self.batch {
            Held::Shared(bytes) => bytes,
            Held::Alone(bytes) => bytes,
        };
        batch.get(HEADER_LEN..).unwrap_or_default()
    }
}

/// Smaller batches are gathered in chunks: as many small pieces would cost more than a copy.
const KEPT_WHOLE_FROM: usize = 128 << 10;

/// So many batches at most keep the room of one request, and none of them more than so many times its own.
const SHARERS_MAX: usize = 8;

const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const LOG_APPEND_TIME: u8 = 1 << 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Something that looks like a batch of `len` bytes.
    fn batch(len: usize) -> Vec<u8> {
        let mut bytes = vec![7; len];
        bytes[..HEADER_LEN].fill(0);
        bytes[8..12].copy_from_slice(&(len as i32 - 12).to_be_bytes());
        bytes[16] = 2;
        bytes
    }

    /// A request with two batches, which are found in it.
    fn request() -> (Bytes, [Incoming; 2]) {
        let small = batch(100);
        let large = batch(KEPT_WHOLE_FROM);
        let body = Bytes::from([b"name", &small[..], b"!", &large, b"end"].concat());
        let at = 4 + small.len() + 1;
        let first = Incoming::new(&body.slice(4..4 + small.len())).unwrap();
        let second = Incoming::new(&body.slice(at..at + large.len())).unwrap();
        (body, [first, second])
    }

    #[test]
    fn a_large_batch_is_taken_over_and_a_small_one_copied() {
        let (body, mut batches) = request();
        let from = body.as_ptr() as usize;
        let to = from + body.len();
        Incoming::take_over(batches.iter_mut(), body);
        let [mut small, mut large] = batches;
        large.place(77, 3);
        let copy = large.to_bytes();
        let kept = large.take_whole().unwrap();
        assert_eq!(kept, copy);
        assert!((from..to).contains(&(kept.as_ptr() as usize)));
        assert_eq!(BatchHeader::parse(&kept).unwrap().base_offset, 77);
        assert_eq!(small.take_whole(), None);
        assert_eq!(small.to_bytes(), batch(100));
    }

    #[test]
    fn a_batch_does_not_keep_a_request_that_is_much_larger() {
        let large = batch(KEPT_WHOLE_FROM);
        let body = Bytes::from([&large[..], &vec![0; 2 * KEPT_WHOLE_FROM]].concat());
        let mut incoming = Incoming::new(&body.slice(..large.len())).unwrap();
        Incoming::take_over([&mut incoming].into_iter(), body);
        assert_eq!(incoming.take_whole(), None);
        assert_eq!(incoming.to_bytes(), large);
    }

    #[test]
    fn a_batch_does_not_keep_the_room_of_others_that_are_much_larger() {
        let (small, large) = (batch(KEPT_WHOLE_FROM), batch(8 * KEPT_WHOLE_FROM));
        let body = Bytes::from([&small[..], &large].concat());
        let first = Incoming::new(&body.slice(..small.len())).unwrap();
        let second = Incoming::new(&body.slice(small.len()..)).unwrap();
        let mut batches = [first, second];
        Incoming::take_over(batches.iter_mut(), body);
        let [mut first, mut second] = batches;
        assert_eq!(first.take_whole(), None);
        assert_eq!(first.to_bytes(), small);
        assert_eq!(second.take_whole().unwrap(), large);
    }

    #[test]
    fn what_others_hold_is_not_changed() {
        let (body, mut batches) = request();
        let held = body.clone();
        let before = held.to_vec();
        Incoming::take_over(batches.iter_mut(), body);
        let [_, mut large] = batches;
        large.place(77, 3);
        assert_eq!(large.take_whole(), None);
        assert_eq!(large.header().unwrap().base_offset, 77);
        assert_eq!(held, before);
    }
}
