//! Reads the primitive types of Kafka's protocol from one buffer.
//!
//! Owns a position in a [`Bytes`]; never copies strings or byte fields, which share the buffer, and never allocates for a
//! length or count before checking it against the bytes that are really there. Input comes from a frame's body, see
//! [`frame`](crate::frame).

use bytes::Bytes;

use crate::{DecodeError, DecodeErrorKind, Str, Uuid, varint};

/// A cursor over the bytes of one message.
#[derive(Debug)]
pub struct Reader {
    buf: Bytes,
    /// Next byte to read; never above `end`.
    pos: usize,
    /// End of what may be read: the end of `buf`, or of the tagged field being read.
    end: usize,
}

impl Reader {
    /// Starts at the first byte of `buf`.
    pub fn new(buf: Bytes) -> Self {
        let end = buf.len();
        Self { buf, pos: 0, end }
    }

    /// Bytes read so far.
    #[inline]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Bytes not yet read.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.end - self.pos
    }

    /// An error at the current byte.
    #[cold]
    pub fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError::new(kind, self.pos)
    }

    /// Fails unless every byte was read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error(DecodeErrorKind::TrailingBytes(left))),
        }
    }

    /// The next two bytes, unread. `None` if there are fewer.
    pub fn peek_i16(&self) -> Option<i16> {
        self.buf[self.pos..self.end]
            .first_chunk()
            .map(|bytes| i16::from_be_bytes(*bytes))
    }

    /// Reads one byte, 0 or not.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.array::<1>()?[0] != 0)
    }

    /// Reads one signed byte.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// Reads two bytes, big-endian.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// Reads two bytes, big-endian, unsigned.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Reads four bytes, big-endian.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Reads four bytes, big-endian, unsigned.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Reads eight bytes, big-endian.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Reads an IEEE double, big-endian.
    #[inline]
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    /// Reads 16 bytes.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.array()?))
    }

    /// Reads an unsigned varint of up to 32 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        match varint::read_u32(&self.buf[self.pos..self.end]) {
            Ok((value, len)) => {
                self.pos += len;
                Ok(value)
            }
            Err(error) => Err(self.error(DecodeErrorKind::Varint(error))),
        }
    }

    /// Reads a string, `None` for null. Flexible versions carry length + 1 as a varint, others an i16 with -1 for null.
    pub fn string(&mut self, flexible: bool) -> Result<Option<Str>, DecodeError> {
        let start = self.pos;
        let len = if flexible {
            self.compact_len()?
        } else {
            self.signed_len(|r| r.i16().map(i32::from))?
        };
        let Some(len) = len else { return Ok(None) };
        if len > MAX_STRING {
            return Err(DecodeError::new(DecodeErrorKind::StringTooLong(len), start));
        }
        let start = self.pos;
        match Str::try_from(self.take(len)?) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(DecodeError::new(DecodeErrorKind::InvalidUtf8, start)),
        }
    }

    /// Reads a byte field, `None` for null. Flexible versions carry length + 1 as a varint, others an i32 with -1 for null.
    pub fn bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        match self.count(flexible)? {
            Some(len) => self.take(len).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the number of elements of an array, `None` for null, without any check but its sign.
    #[inline]
    pub fn count(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            self.compact_len()
        } else {
            self.signed_len(Self::i32)
        }
    }

    /// Fails if `count` elements of at least `min_size` bytes each (at least one byte) cannot be there. Call it before
    /// allocating for them.
    #[inline]
    pub fn check_count(&self, count: usize, min_size: usize) -> Result<(), DecodeError> {
        if count > self.remaining() / min_size.max(1) {
            return Err(self.error(DecodeErrorKind::CountTooLarge {
                count,
                remaining: self.remaining(),
            }));
        }
        Ok(())
    }

    /// The next `len` bytes, sharing the buffer.
    pub fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len == 0 {
            // Does not hold on to the whole buffer for the sake of nothing.
            return Ok(Bytes::new());
        }
        let start = self.advance(len)?;
        Ok(self.buf.slice(start..start + len))
    }

    /// All remaining bytes, sharing the buffer.
    pub fn take_rest(&mut self) -> Bytes {
        let start = std::mem::replace(&mut self.pos, self.end);
        self.buf.slice(start..self.end)
    }

    /// Lets `read` see only the next `len` bytes, and fails unless it reads all of them.
    pub fn limited<T>(
        &mut self,
        len: usize,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        if len > self.remaining() {
            return Err(self.end_error(len));
        }
        let outer_end = std::mem::replace(&mut self.end, self.pos + len);
        let result = read(self).and_then(|value| self.finish().map(|()| value));
        self.end = outer_end;
        result
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.buf[self.pos..self.end].first_chunk::<N>() {
            Some(bytes) => {
                self.pos += N;
                Ok(*bytes)
            }
            None => Err(self.end_error(N)),
        }
    }

    fn advance(&mut self, len: usize) -> Result<usize, DecodeError> {
        if len > self.remaining() {
            return Err(self.end_error(len));
        }
        let start = self.pos;
        self.pos += len;
        Ok(start)
    }

    #[inline]
    fn compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.varint()?.checked_sub(1).map(|len| len as usize))
    }

    #[inline]
    fn signed_len(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<i32, DecodeError>,
    ) -> Result<Option<usize>, DecodeError> {
        let start = self.pos;
        match read(self)? {
            -1 => Ok(None),
            len => match usize::try_from(len) {
                Ok(len) => Ok(Some(len)),
                Err(_) => Err(DecodeError::new(
                    DecodeErrorKind::NegativeLength(len.into()),
                    start,
                )),
            },
        }
    }

    #[cold]
    fn end_error(&self, needed: usize) -> DecodeError {
        self.error(DecodeErrorKind::UnexpectedEnd {
            needed,
            remaining: self.remaining(),
        })
    }
}

/// Longest string of the protocol, in bytes; flexible versions keep the limit of the older 16-bit length.
pub(crate) const MAX_STRING: usize = i16::MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes))
    }

    #[test]
    fn strings_share_the_buffer() {
        let buf = Bytes::from(b"\x00\x05hello".to_vec());
        let text = Reader::new(buf.clone()).string(false).unwrap().unwrap();
        assert_eq!(text.as_bytes().as_ptr(), buf[2..].as_ptr());
    }

    #[test]
    fn null_and_empty_differ() {
        assert_eq!(reader(b"\xff\xff").string(false).unwrap(), None);
        assert_eq!(reader(b"\x00\x00").string(false).unwrap(), Some(Str::new()));
        assert_eq!(reader(b"\x00").string(true).unwrap(), None);
        assert_eq!(reader(b"\x01").bytes(true).unwrap(), Some(Bytes::new()));
    }

    #[test]
    fn hostile_lengths_fail_before_reading() {
        let error = reader(b"\x7f\xff\xff\xff").bytes(false).unwrap_err();
        assert_eq!(
            *error.kind(),
            DecodeErrorKind::UnexpectedEnd {
                needed: 0x7fff_ffff,
                remaining: 0
            }
        );
        let error = reader(b"\xff\xfe").string(false).unwrap_err();
        assert_eq!(*error.kind(), DecodeErrorKind::NegativeLength(-2));
        let error = reader(b"\x00\x02\xc3\x28").string(false).unwrap_err();
        assert_eq!(
            (error.kind(), error.offset()),
            (&DecodeErrorKind::InvalidUtf8, 2)
        );
        let mut r = reader(b"\x00\x00\x00\x09rest");
        let count = r.count(false).unwrap().unwrap();
        assert!(r.check_count(count, 1).is_err());
        assert!(r.check_count(4, 1).is_ok());
        assert!(r.check_count(4, 2).is_err());
    }

    #[test]
    fn a_limit_must_be_used_up_and_is_lifted_again() {
        let mut r = reader(b"\x01\x02\x03\x04");
        assert_eq!(r.limited(2, Reader::i16).unwrap(), 0x0102);
        let error = r.limited(2, Reader::i8).unwrap_err();
        assert_eq!(*error.kind(), DecodeErrorKind::TrailingBytes(1));
        assert_eq!(r.remaining(), 1);
        assert!(
            r.limited(1, Reader::i16).is_err(),
            "cannot see past the limit"
        );
        assert!(
            r.limited(2, Reader::i16).is_err(),
            "cannot reach past the buffer"
        );
    }
}
