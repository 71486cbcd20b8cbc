//! Requests read from a socket field by field, so that a produced batch never has to be held.

use std::io::{self, Read};
use std::net::TcpStream;

use rustix::net::{RecvFlags, recv};

/// Read at once; larger fields are only ever skipped.
const BUFFER: usize = 16 << 10;
/// Most bytes the kernel is asked to throw away in one call.
const SKIP: usize = 1 << 20;

/// The request side of a connection.
pub(super) struct Inbound<'a> {
    stream: &'a TcpStream,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Never written by the kernel, only measured by it.
    discard: Vec<u8>,
    /// Bytes of the frame not yet consumed.
    left: usize,
    /// Whether the request at hand has compact lengths and tagged fields.
    pub(super) flexible: bool,
}

impl<'a> Inbound<'a> {
    pub(super) fn new(stream: &'a TcpStream) -> Self {
        Self {
            stream,
            buf: vec![0; BUFFER],
            start: 0,
            end: 0,
            discard: vec![0; SKIP],
            left: 0,
            flexible: false,
        }
    }

    /// Drops what is left of the last frame and reads the length of the next.
    pub(super) fn next_frame(&mut self) -> io::Result<()> {
        self.skip(self.left)?;
        self.left = 4;
        let length = self.i32()?;
        self.left = usize::try_from(length).map_err(|_| malformed("frame length"))?;
        Ok(())
    }

    pub(super) fn i8(&mut self) -> io::Result<i8> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub(super) fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn uvarint(&mut self) -> io::Result<u32> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed("varint"))
    }

    /// A string whose length is 16 bits whatever the version.
    pub(super) fn old_string(&mut self) -> io::Result<Option<&[u8]>> {
        match usize::try_from(self.i16()?) {
            Ok(len) => self.bytes(len).map(Some),
            Err(_) => Ok(None),
        }
    }

    pub(super) fn string(&mut self) -> io::Result<Option<&[u8]>> {
        if !self.flexible {
            return self.old_string();
        }
        match self.uvarint()? {
            0 => Ok(None),
            len => self.bytes(len as usize - 1).map(Some),
        }
    }

    /// Length of an array; a null one is `None`.
    pub(super) fn array_len(&mut self) -> io::Result<Option<usize>> {
        if self.flexible {
            Ok((self.uvarint()? as usize).checked_sub(1))
        } else {
            Ok(usize::try_from(self.i32()?).ok())
        }
    }

    /// Length of a byte string that follows.
    pub(super) fn bytes_len(&mut self) -> io::Result<usize> {
        Ok(self.array_len()?.unwrap_or(0))
    }

    pub(super) fn tags(&mut self) -> io::Result<()> {
        if self.flexible {
            for _ in 0..self.uvarint()? {
                self.uvarint()?;
                let len = self.uvarint()?;
                self.skip(len as usize)?;
            }
        }
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    fn bytes(&mut self, len: usize) -> io::Result<&[u8]> {
        if len > self.left || len > BUFFER {
            return Err(malformed("length of a field"));
        }
        self.left -= len;
        if self.end - self.start < len {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < len {
                match self.stream.read(&mut self.buf[self.end..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    more => self.end += more,
                }
            }
        }
        let from = self.start;
        self.start += len;
        Ok(&self.buf[from..self.start])
    }

    pub(super) fn skip(&mut self, len: usize) -> io::Result<()> {
        if len > self.left {
            return Err(malformed("length of a field"));
        }
        self.left -= len;
        let buffered = len.min(self.end - self.start);
        self.start += buffered;
        let mut rest = len - buffered;
        while rest > 0 {
            // With TRUNC, TCP drops the bytes in the kernel instead of copying them out.
            let discard = &mut self.discard[..rest.min(SKIP)];
            match recv(self.stream, discard, RecvFlags::TRUNC | RecvFlags::WAITALL)?.1 {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                gone => rest -= gone,
            }
        }
        Ok(())
    }
}

pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("malformed request: {what}"),
    )
}
