//! Zigzag varints as record batches use them: 32 bits for lengths and deltas of offsets, 64 for
//! deltas of timestamps.
//!
//! Nearly every varint of a record is one byte long, so that case is inlined and the rest is not.

/// The longest encoding of an `i32`.
pub(crate) const MAX_VARINT_LEN: usize = 5;

/// The longest encoding of an `i64`.
pub(crate) const MAX_VARLONG_LEN: usize = 10;

/// Up to sixteen bytes put together in a register.
///
/// Shifted together, the bytes cost an instruction each; stored one by one and copied as one wide load they may make the
/// processor wait for the stores. That is the reasoning; the gain was not measured apart from other changes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Short {
    bits: u128,
    len: usize,
}

impl Short {
    /// The varint of `value`: at most [`MAX_VARINT_LEN`] bytes.
    #[inline(always)]
    pub(crate) fn varint(value: i32) -> Self {
        Self::unsigned(u64::from(zigzag32(value)))
    }

    /// The varlong of `value`: at most [`MAX_VARLONG_LEN`] bytes.
    #[inline(always)]
    pub(crate) fn varlong(value: i64) -> Self {
        Self::unsigned(zigzag64(value))
    }

    /// A byte of zero.
    pub(crate) const ZERO: Self = Self { bits: 0, len: 1 };

    /// `self` and then `next`, together at most sixteen bytes.
    #[inline(always)]
    pub(crate) fn then(self, next: Self) -> Self {
        debug_assert!(self.len + next.len <= 16);
        Self {
            bits: self.bits | next.bits << (8 * self.len),
            len: self.len + next.len,
        }
    }

    /// How many bytes.
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The bytes, and zeros up to sixteen.
    #[inline(always)]
    pub(crate) fn padded(self) -> [u8; 16] {
        self.bits.to_le_bytes()
    }

    #[inline(always)]
    fn unsigned(value: u64) -> Self {
        if value < 0x80 {
            return Self {
                bits: u128::from(value),
                len: 1,
            };
        }
        if value < 0x4000 {
            return Self {
                bits: u128::from(value & 0x7f | 0x80 | (value >> 7) << 8),
                len: 2,
            };
        }
        Self::long(value)
    }

    fn long(mut value: u64) -> Self {
        let (mut bits, mut len) = (0, 0);
        while value >= 0x80 {
            bits |= u128::from(value & 0x7f | 0x80) << (8 * len);
            value >>= 7;
            len += 1;
        }
        Self {
            bits: bits | u128::from(value) << (8 * len),
            len: len + 1,
        }
    }
}

/// Reads the varint at `at` and returns it with the index after it; `None` when it is cut short or
/// does not fit 32 bits.
#[inline(always)]
pub(crate) fn varint(bytes: &[u8], at: usize) -> Option<(i32, usize)> {
    let &first = bytes.get(at)?;
    if first < 0x80 {
        return Some((unzigzag32(u32::from(first)), at + 1));
    }
    let (raw, next) = long_varint(bytes, at, MAX_VARINT_LEN)?;
    Some((unzigzag32(u32::try_from(raw).ok()?), next))
}

/// Reads the varlong at `at` and returns it with the index after it; `None` when it is cut short or
/// does not fit 64 bits.
#[inline(always)]
pub(crate) fn varlong(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let &first = bytes.get(at)?;
    if first < 0x80 {
        return Some((unzigzag64(u64::from(first)), at + 1));
    }
    let (raw, next) = long_varint(bytes, at, MAX_VARLONG_LEN)?;
    Some((unzigzag64(raw), next))
}

/// The length in bytes of `value` as a varint.
#[inline]
pub(crate) fn varint_len(value: i32) -> usize {
    unsigned_len(u64::from(zigzag32(value)))
}

/// The length in bytes of `value` as a varlong.
#[inline]
pub(crate) fn varlong_len(value: i64) -> usize {
    unsigned_len(zigzag64(value))
}

fn long_varint(bytes: &[u8], at: usize, max_len: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.get(at..)?.iter().take(max_len).enumerate() {
        let shift = 7 * index as u32;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte of a varlong has one bit to give.
        if bits > u64::MAX >> shift {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some((value, at + index + 1));
        }
    }
    None
}

#[inline(always)]
fn unsigned_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[inline(always)]
fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

#[inline(always)]
fn unzigzag32(raw: u32) -> i32 {
    (raw >> 1) as i32 ^ -((raw & 1) as i32)
}

#[inline(always)]
fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline(always)]
fn unzigzag64(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_encodings() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (300, &[0xd8, 0x04]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let short = Short::varint(value);
            assert_eq!(&short.padded()[..short.len()], bytes, "{value}");
            assert_eq!(varint(bytes, 0), Some((value, bytes.len())));
        }
        let lowest = Short::varlong(i64::MIN);
        assert_eq!(lowest.len(), MAX_VARLONG_LEN);
        assert_eq!(lowest.padded()[..9], [0xff; 9]);
        assert_eq!(lowest.padded()[9], 0x01);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x10], 0), None);
        assert_eq!(varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 0), None);
        assert_eq!(varint(&[0x80], 0), None);
        assert_eq!(varint(&[], 0), None);
        assert_eq!(varint(&[0], 7), None);
        assert_eq!(
            varlong(
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
                0
            ),
            None
        );
    }

    proptest! {
        #[test]
        fn every_int_round_trips(value: i32, before in 0usize..4) {
            let mut short = Short::default();
            for _ in 0..before {
                short = short.then(Short::ZERO);
            }
            let (out, end) = (short.then(Short::varint(value)), before + varint_len(value));
            prop_assert_eq!(out.len(), end);
            let out = out.padded();
            prop_assert_eq!(varint(&out, before), Some((value, end)));
            prop_assert_eq!(varint(&out[..end - 1], before), None);
        }

        #[test]
        fn every_long_round_trips(value: i64, before in 0usize..4) {
            let mut short = Short::default();
            for _ in 0..before {
                short = short.then(Short::ZERO);
            }
            let (out, end) = (short.then(Short::varlong(value)), before + varlong_len(value));
            prop_assert_eq!(out.len(), end);
            let out = out.padded();
            prop_assert_eq!(varlong(&out, before), Some((value, end)));
            prop_assert_eq!(varlong(&out[..end - 1], before), None);
        }
    }
}
