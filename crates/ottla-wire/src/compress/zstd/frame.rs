//! Where a frame ends and how much it can hold, read from its block headers alone.

use crate::compress::error::DecompressError;
use crate::compress::output::Output;

/// The most plain bytes of a compressed block.
const COMPRESSED_MAX: u64 = 128 * 1024;

/// Magic numbers, little-endian: of a frame, and of the sixteen skippable ones but for four bits.
const MAGIC: u32 = 0xfd2f_b528;
const SKIPPABLE: u32 = 0x184d_2a50;

/// Decompresses every frame of `input` to the end of `out`, each by `decode(frame, target)`, which
/// says how many bytes it wrote or what is wrong.
pub(super) fn decompress_each<E: ToString>(
    input: &[u8],
    out: &mut Output,
    mut decode: impl FnMut(&[u8], &mut [u8]) -> Result<usize, E>,
) -> Result<(), DecompressError> {
    let mut rest = input;
    loop {
        let found = Frame::first(rest).map_err(|reason| out.corrupt(reason))?;
        let (frame, next) = rest.split_at(found.len);
        let (start, room) = (out.len(), out.room());
        let (_, target) = out.grow(found.reserve(room))?;
        match decode(frame, target) {
            Ok(written) => out.keep(start + written),
            Err(_) if found.may_exceed(room) => return Err(out.over_budget()),
            Err(error) => return Err(out.corrupt(error.to_string())),
        }
        rest = next;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// A frame of a batch's body, found without decompressing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes of the whole frame.
    pub(super) len: usize,
    /// The most it can decompress to, whatever its header declares: raw and run-length blocks
    /// say, compressed ones make 128 KiB at most.
    pub(super) bound: u64,
    /// What the header declares it decompresses to. Neither believed nor needed.
    pub(super) declared: Option<u64>,
}

impl Frame {
    /// The frame that `input` starts with.
    pub(super) fn first(input: &[u8]) -> Result<Self, &'static str> {
        const CUT: &str = "the zstd frame is cut short";
        let (magic, _) = input.split_first_chunk::<4>().ok_or(CUT)?;
        let magic = u32::from_le_bytes(*magic);
        if magic & 0xffff_fff0 == SKIPPABLE {
            let size = input
                .get(4..8)
                .and_then(|s| s.first_chunk::<4>())
                .ok_or(CUT)?;
            let len = 8 + u32::from_le_bytes(*size) as u64;
            let len = usize::try_from(len).ok().filter(|&len| len <= input.len());
            return Ok(Self {
                len: len.ok_or(CUT)?,
                bound: 0,
                declared: None,
            });
        }
        if magic != MAGIC {
            return Err("not a zstd frame");
        }
        let &descriptor = input.get(4).ok_or(CUT)?;
        let single_segment = descriptor & 0x20 != 0;
        let window_len = usize::from(!single_segment);
        let dictionary_len = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let size_len = match descriptor >> 6 {
            0 => usize::from(single_segment),
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let size_at = 5 + window_len + dictionary_len;
        let mut at = size_at + size_len;
        let size = input.get(size_at..at).ok_or(CUT)?;
        let mut padded = [0; 8];
        padded[..size_len].copy_from_slice(size);
        // Two bytes count from 256 on, because one byte counts up to 255.
        let size = u64::from_le_bytes(padded) + if size_len == 2 { 256 } else { 0 };

        let mut bound = 0;
        loop {
            let Some(&[b0, b1, b2]) = input.get(at..at + 3) else {
                return Err(CUT);
            };
            let header = u32::from_le_bytes([b0, b1, b2, 0]);
            let size = header >> 3;
            let (plain, stored) = match (header >> 1) & 3 {
                0 => (u64::from(size), size),
                1 => (u64::from(size), 1),
                2 => (COMPRESSED_MAX, size),
                _ => return Err("a zstd block of the reserved type"),
            };
            bound += plain;
            at += 3 + stored as usize;
            if header & 1 == 1 {
                break;
            }
        }
        if descriptor & 0x04 != 0 {
            at += 4;
        }
        if at > input.len() {
            return Err(CUT);
        }
        Ok(Self {
            len: at,
            bound,
            declared: (size_len > 0).then_some(size),
        })
    }

    /// Bytes to make room for: no more than the blocks can hold, what is declared, and `room`.
    pub(super) fn reserve(&self, room: usize) -> usize {
        let wanted = self.bound.min(self.declared.unwrap_or(u64::MAX));
        usize::try_from(wanted).map_or(room, |wanted| wanted.min(room))
    }

    /// Whether the frame may hold more than `room`.
    pub(super) fn may_exceed(&self, room: usize) -> bool {
        self.bound.min(self.declared.unwrap_or(u64::MAX)) > room as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_size_field_of_every_width() {
        // Single segment, one raw block of three bytes.
        let one = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 3, 0x19, 0, 0, 1, 2, 3];
        let frame = Frame::first(&one).unwrap();
        assert_eq!((frame.len, frame.bound, frame.declared), (12, 3, Some(3)));
        // Two-byte size: 256 more than it says.
        let two = [0x28, 0xb5, 0x2f, 0xfd, 0x60, 0, 1, 0x03, 0x10, 0, 7];
        let frame = Frame::first(&two).unwrap();
        assert_eq!((frame.bound, frame.declared), (512, Some(512)));
        for len in 0..one.len() {
            assert!(Frame::first(&one[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn a_lie_about_the_size_reserves_nothing() {
        // Eight-byte size of 2^62, then one run of five bytes.
        let mut lie = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        lie.extend_from_slice(&(1u64 << 62).to_le_bytes());
        lie.extend_from_slice(&[(5 << 3) | 0x02 | 1, 0, 0, b'x']);
        let frame = Frame::first(&lie).unwrap();
        assert_eq!(frame.reserve(usize::MAX), 5);
    }

    #[test]
    fn skippable_frames_hold_nothing() {
        let skip = [0x5f, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
        assert_eq!(Frame::first(&skip).unwrap().len, 10);
        assert_eq!(Frame::first(&skip).unwrap().bound, 0);
        assert!(Frame::first(&skip[..9]).is_err());
    }
}
