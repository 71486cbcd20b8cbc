//! Writes the primitive types of Kafka's protocol.
//!
//! Owns the bytes of one message in the making: a growing buffer, and beside it the large byte fields (record batches)
//! that are not copied but go out as chunks of their own. Nothing here knows of sockets; [`Frame`](crate::Frame)
//! carries the result there.

use bytes::{BufMut, Bytes, BytesMut};

use crate::reader::MAX_STRING;
use crate::{EncodeError, EncodeErrorKind, Uuid, varint};

/// Collects the bytes of one message.
#[derive(Debug, Default)]
pub struct Writer {
    buf: BytesMut,
    /// Fields kept out of `buf`, each with the length `buf` had when it was put; ascending.
    shared: Vec<(usize, Bytes)>,
    /// Sum of the lengths in `shared`.
    shared_len: usize,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `capacity` bytes beside shared fields.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            buf: BytesMut::with_capacity(capacity),
            ..Self::default()
        }
    }

    /// Bytes written so far, shared ones included.
    pub fn len(&self) -> usize {
        self.buf.len() + self.shared_len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything written, as chunks in order; none of them empty.
    pub fn into_chunks(self) -> Vec<Bytes> {
        let Self {
            mut buf, shared, ..
        } = self;
        let mut chunks = Vec::with_capacity(2 * shared.len() + 1);
        let mut split = 0;
        for (position, bytes) in shared {
            if position > split {
                chunks.push(buf.split_to(position - split).freeze());
                split = position;
            }
            chunks.push(bytes);
        }
        if !buf.is_empty() {
            chunks.push(buf.freeze());
        }
        chunks
    }

    /// Everything written, in one piece. Copies if there are shared fields.
    pub fn into_bytes(self) -> Bytes {
        let len = self.len();
        if self.shared.is_empty() {
            return self.buf.freeze();
        }
        let mut joined = BytesMut::with_capacity(len);
        for chunk in self.into_chunks() {
            joined.put_slice(&chunk);
        }
        joined.freeze()
    }

    /// Writes over four bytes already written at `position`, such as a length that was not known before.
    ///
    /// # Panics
    /// If those bytes were not written yet.
    pub fn patch_i32(&mut self, position: usize, value: i32) {
        self.buf[position..position + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Writes 0 or 1.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.buf.put_u8(value.into());
    }

    /// Writes one byte.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.buf.put_i8(value);
    }

    /// Writes two bytes, big-endian.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.buf.put_i16(value);
    }

    /// Writes two bytes, big-endian.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.buf.put_u16(value);
    }

    /// Writes four bytes, big-endian.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.buf.put_i32(value);
    }

    /// Writes four bytes, big-endian.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.buf.put_u32(value);
    }

    /// Writes eight bytes, big-endian.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.buf.put_i64(value);
    }

    /// Writes an IEEE double, big-endian.
    #[inline]
    pub fn f64(&mut self, value: f64) {
        self.buf.put_f64(value);
    }

    /// Writes 16 bytes.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.buf.put_slice(&value.0);
    }

    /// Writes an unsigned varint.
    #[inline]
    pub fn varint(&mut self, value: u32) {
        varint::put_u32(&mut self.buf, value);
    }

    /// Writes a string with its length, or null.
    ///
    /// # Errors
    /// [`EncodeErrorKind::TooLong`] above 32767 bytes.
    pub fn string(&mut self, value: Option<&str>, flexible: bool) -> Result<(), EncodeError> {
        let len = value.map(str::len);
        if let Some(len) = len.filter(|&len| len > MAX_STRING) {
            return Err(EncodeError::new(EncodeErrorKind::TooLong {
                len,
                max: MAX_STRING,
            }));
        }
        if flexible {
            self.count(len, true)?;
        } else {
            self.i16(len.map_or(-1, |len| len as i16));
        }
        self.buf.put_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// Writes a byte field with its length, or null. From 1 KiB on it is not copied but shared.
    ///
    /// # Errors
    /// [`EncodeErrorKind::TooLong`] above 2 GiB.
    pub fn bytes(&mut self, value: Option<&Bytes>, flexible: bool) -> Result<(), EncodeError> {
        self.count(value.map(Bytes::len), flexible)?;
        if let Some(bytes) = value {
            self.raw(bytes);
        }
        Ok(())
    }

    /// Writes bytes without a length. From 1 KiB on they are not copied but shared.
    pub fn raw(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_FROM {
            self.buf.put_slice(bytes);
        } else {
            self.shared.push((self.buf.len(), bytes.clone()));
            self.shared_len += bytes.len();
        }
    }

    /// Writes the number of elements of an array or bytes of a field, or null.
    ///
    /// # Errors
    /// [`EncodeErrorKind::TooLong`] above 2^31 - 1.
    pub fn count(&mut self, count: Option<usize>, flexible: bool) -> Result<(), EncodeError> {
        let max = i32::MAX as usize;
        if let Some(len) = count.filter(|&count| count > max) {
            return Err(EncodeError::new(EncodeErrorKind::TooLong { len, max }));
        }
        if flexible {
            self.varint(count.map_or(0, |count| count as u32 + 1));
        } else {
            self.i32(count.map_or(-1, |count| count as i32));
        }
        Ok(())
    }
}

/// Byte fields of at least this many bytes are shared: below it a copy costs less than a chunk of a vectored write.
const SHARE_FROM: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_fields_are_not_copied() {
        let large = Bytes::from(vec![7; SHARE_FROM]);
        let mut w = Writer::new();
        w.i32(1);
        w.bytes(Some(&large), false).unwrap();
        w.bytes(Some(&large), true).unwrap();
        w.i8(2);
        assert_eq!(w.len(), 4 + 4 + 1024 + 2 + 1024 + 1);
        let chunks = w.into_chunks();
        let lens: Vec<_> = chunks.iter().map(Bytes::len).collect();
        assert_eq!(lens, [8, 1024, 2, 1024, 1]);
        assert_eq!(chunks[1].as_ptr(), large.as_ptr());
        assert_eq!(chunks[3].as_ptr(), large.as_ptr());
    }

    #[test]
    fn neighbouring_shared_fields_leave_no_empty_chunk() {
        let large = Bytes::from(vec![7; SHARE_FROM]);
        let mut w = Writer::new();
        w.raw(&large);
        w.raw(&large);
        assert_eq!(w.into_chunks().len(), 2);
    }

    #[test]
    fn small_fields_stay_in_one_chunk() {
        let mut w = Writer::new();
        w.bytes(Some(&Bytes::from_static(b"ab")), true).unwrap();
        w.string(Some("c"), false).unwrap();
        w.string(None, true).unwrap();
        assert_eq!(
            w.into_chunks(),
            [Bytes::from_static(b"\x03ab\x00\x01c\x00")]
        );
    }

    #[test]
    fn long_strings_are_refused() {
        let text = "x".repeat(MAX_STRING + 1);
        let error = Writer::new().string(Some(&text), true).unwrap_err();
        assert_eq!(
            *error.kind(),
            EncodeErrorKind::TooLong {
                len: 32768,
                max: 32767
            }
        );
        assert!(Writer::new().string(Some(&text[1..]), false).is_ok());
    }
}
