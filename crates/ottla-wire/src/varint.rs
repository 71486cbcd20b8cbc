//! Variable-length integers: seven bits a byte, least significant group first, high bit set on all but the last.
//!
//! Unsigned ones carry lengths, counts and tags in flexible messages. Signed ones (zigzag, so that small negative numbers
//! stay short) carry lengths and deltas inside record batches. Nothing here allocates; every decoder looks at no more than
//! five (32 bit) or ten (64 bit) bytes.

use bytes::{BufMut, BytesMut};

/// Most bytes a 32-bit varint takes.
pub const MAX_LEN_32: usize = 5;
/// Most bytes a 64-bit varint takes.
pub const MAX_LEN_64: usize = 10;

/// Why a varint could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// The input ended before the last byte of the number.
    #[error("the input ends inside a varint")]
    Truncated,
    /// The number does not fit the width asked for, or goes on beyond its longest form.
    #[error("a varint is longer than its type allows")]
    TooLong,
}

/// Reads an unsigned 32-bit varint; returns it and how many bytes it took.
#[inline]
pub fn read_u32(input: &[u8]) -> Result<(u32, usize), VarintError> {
    match input.first() {
        Some(&byte) if byte < 0x80 => Ok((u32::from(byte), 1)),
        _ => {
            let (value, len) = read_long(input, MAX_LEN_32)?;
            let value = u32::try_from(value).map_err(|_| VarintError::TooLong)?;
            Ok((value, len))
        }
    }
}

/// Reads an unsigned 64-bit varint; returns it and how many bytes it took.
#[inline]
pub fn read_u64(input: &[u8]) -> Result<(u64, usize), VarintError> {
    match input.first() {
        Some(&byte) if byte < 0x80 => Ok((u64::from(byte), 1)),
        _ => read_long(input, MAX_LEN_64),
    }
}

/// Reads a zigzag 32-bit varint (a record's lengths and offset delta).
#[inline]
pub fn read_i32(input: &[u8]) -> Result<(i32, usize), VarintError> {
    let (value, len) = read_u32(input)?;
    Ok((unzigzag_32(value), len))
}

/// Reads a zigzag 64-bit varint (a record's timestamp delta).
#[inline]
pub fn read_i64(input: &[u8]) -> Result<(i64, usize), VarintError> {
    let (value, len) = read_u64(input)?;
    Ok((unzigzag_64(value), len))
}

fn read_long(input: &[u8], max_len: usize) -> Result<(u64, usize), VarintError> {
    let mut value = 0u64;
    for (i, &byte) in input.iter().take(max_len).enumerate() {
        // The tenth byte of a 64-bit varint has room for one bit only.
        if i == MAX_LEN_64 - 1 && byte > 1 {
            return Err(VarintError::TooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Ok((value, i + 1));
        }
    }
    if input.len() < max_len {
        Err(VarintError::Truncated)
    } else {
        Err(VarintError::TooLong)
    }
}

/// Appends an unsigned 32-bit varint.
#[inline]
pub fn put_u32(out: &mut BytesMut, value: u32) {
    put_u64(out, u64::from(value));
}

/// Appends an unsigned 64-bit varint.
#[inline]
pub fn put_u64(out: &mut BytesMut, value: u64) {
    if value < 0x80 {
        out.put_u8(value as u8);
    } else {
        let mut scratch = [0; MAX_LEN_64];
        let len = encode_u64(value, &mut scratch);
        out.put_slice(&scratch[..len]);
    }
}

/// Appends a zigzag 32-bit varint.
#[inline]
pub fn put_i32(out: &mut BytesMut, value: i32) {
    put_u32(out, zigzag_32(value));
}

/// Appends a zigzag 64-bit varint.
#[inline]
pub fn put_i64(out: &mut BytesMut, value: i64) {
    put_u64(out, zigzag_64(value));
}

/// Writes an unsigned varint at the start of `out`; returns its length.
#[inline]
pub fn encode_u64(mut value: u64, out: &mut [u8; MAX_LEN_64]) -> usize {
    let mut len = 0;
    while value >= 0x80 {
        out[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    out[len] = value as u8;
    len + 1
}

/// Bytes that [`put_u32`] appends for `value`.
#[inline]
pub const fn len_u32(value: u32) -> usize {
    len_u64(value as u64)
}

/// Bytes that [`put_u64`] appends for `value`.
#[inline]
pub const fn len_u64(value: u64) -> usize {
    // Bits in use (at least one), in groups of seven.
    ((64 - (value | 1).leading_zeros()) as usize).div_ceil(7)
}

/// Bytes that [`put_i32`] appends for `value`.
#[inline]
pub const fn len_i32(value: i32) -> usize {
    len_u32(zigzag_32(value))
}

/// Bytes that [`put_i64`] appends for `value`.
#[inline]
pub const fn len_i64(value: i64) -> usize {
    len_u64(zigzag_64(value))
}

/// Folds the sign into the lowest bit: 0, -1, 1, -2 … become 0, 1, 2, 3 …
#[inline]
pub const fn zigzag_32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

/// Folds the sign into the lowest bit.
#[inline]
pub const fn zigzag_64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`zigzag_32`].
#[inline]
pub const fn unzigzag_32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

/// Undoes [`zigzag_64`].
#[inline]
pub const fn unzigzag_64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_encodings() {
        let cases: [(u64, &[u8]); 6] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (300, &[0xac, 0x02]),
            (u64::from(u32::MAX), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (
                u64::MAX,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ];
        for (value, bytes) in cases {
            let mut out = BytesMut::new();
            put_u64(&mut out, value);
            assert_eq!(&out[..], bytes);
            assert_eq!(read_u64(bytes), Ok((value, bytes.len())));
        }
        assert_eq!(
            (zigzag_32(-1), zigzag_32(1), zigzag_32(i32::MIN)),
            (1, 2, u32::MAX)
        );
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(read_u32(&[]), Err(VarintError::Truncated));
        assert_eq!(read_u32(&[0x80; 4]), Err(VarintError::Truncated));
        assert_eq!(read_u32(&[0x80; 5]), Err(VarintError::TooLong));
        assert_eq!(
            read_u32(&[0xff, 0xff, 0xff, 0xff, 0x10]),
            Err(VarintError::TooLong)
        );
        assert_eq!(read_u64(&[0xff; 11]), Err(VarintError::TooLong));
        let mut ten = [0xff; 10];
        ten[9] = 2;
        assert_eq!(read_u64(&ten), Err(VarintError::TooLong));
    }

    proptest! {
        #[test]
        fn round_trips(unsigned: u64, short: u32, signed: i64, small: i32, shift in 0u32..64) {
            // Shifted, so that every length is as likely as the longest.
            let (unsigned, signed) = (unsigned >> shift, signed >> shift);
            let (short, small) = (short >> (shift / 2), small >> (shift / 2));
            let mut out = BytesMut::new();
            put_u64(&mut out, unsigned);
            prop_assert_eq!(out.len(), len_u64(unsigned));
            prop_assert_eq!(read_u64(&out), Ok((unsigned, out.len())));
            out.clear();
            put_u32(&mut out, short);
            prop_assert_eq!(out.len(), len_u32(short));
            prop_assert_eq!(read_u32(&out), Ok((short, out.len())));
            out.clear();
            put_i64(&mut out, signed);
            prop_assert_eq!(out.len(), len_i64(signed));
            prop_assert_eq!(read_i64(&out), Ok((signed, out.len())));
            out.clear();
            put_i32(&mut out, small);
            prop_assert_eq!(out.len(), len_i32(small));
            prop_assert_eq!(read_i32(&out), Ok((small, out.len())));
        }
    }
}
