//! A reply under construction: small fields in one buffer, batches by reference, sent in vectored
//! writes.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;

use super::served::{Piece, Served};

/// Most slices given to one write; the kernel takes 1024.
const SLICES: usize = 512;

/// The reply side of a connection.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    fields: Vec<u8>,
    /// Where in `fields` a batch belongs, and which.
    pieces: Vec<(usize, Piece)>,
    pieces_len: usize,
    pub(super) flexible: bool,
}

impl Outbound {
    /// Starts a reply; the length is filled in when it is sent.
    pub(super) fn begin(&mut self, correlation_id: i32) {
        self.fields.clear();
        self.pieces.clear();
        self.pieces_len = 0;
        self.i32(0);
        self.i32(correlation_id);
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.fields.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.fields.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.fields.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.fields.extend_from_slice(&value.to_be_bytes());
    }

    fn uvarint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.fields.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.fields.push(value as u8);
    }

    pub(super) fn string(&mut self, value: Option<&[u8]>) {
        match value {
            Some(bytes) => {
                if self.flexible {
                    self.uvarint(bytes.len() as u32 + 1);
                } else {
                    self.i16(bytes.len() as i16);
                }
                self.fields.extend_from_slice(bytes);
            }
            None if self.flexible => self.uvarint(0),
            None => self.i16(-1),
        }
    }

    pub(super) fn array_len(&mut self, len: usize) {
        if self.flexible {
            self.uvarint(len as u32 + 1);
        } else {
            self.i32(len as i32);
        }
    }

    pub(super) fn null_array(&mut self) {
        if self.flexible {
            self.uvarint(0);
        } else {
            self.i32(-1);
        }
    }

    pub(super) fn tags(&mut self) {
        if self.flexible {
            self.uvarint(0);
        }
    }

    /// Appends a batch with `base_offset` in place of its own.
    pub(super) fn batch(&mut self, base_offset: i64, piece: Piece) {
        self.i64(base_offset);
        self.pieces_len += piece.len() - 8;
        self.pieces.push((self.fields.len(), piece));
    }

    /// Sends the reply.
    pub(super) fn send(&mut self, mut stream: &TcpStream, served: &Served) -> io::Result<()> {
        let length = (self.fields.len() - 4 + self.pieces_len) as i32;
        self.fields[..4].copy_from_slice(&length.to_be_bytes());
        let mut from = 0;
        let mut slices = Vec::with_capacity(SLICES);
        let mut pieces = self.pieces.iter();
        loop {
            slices.clear();
            for (at, piece) in pieces.by_ref().take(SLICES / 2) {
                slices.push(IoSlice::new(&self.fields[from..*at]));
                slices.push(IoSlice::new(&served.bytes(*piece)[8..]));
                from = *at;
            }
            let last = slices.len() < SLICES / 2 * 2;
            if last {
                slices.push(IoSlice::new(&self.fields[from..]));
            }
            let mut unsent = &mut slices[..];
            while !unsent.is_empty() {
                match stream.write_vectored(unsent)? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    sent => IoSlice::advance_slices(&mut unsent, sent),
                }
            }
            if last {
                return Ok(());
            }
        }
    }
}
