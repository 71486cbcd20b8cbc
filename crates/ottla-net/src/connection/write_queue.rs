//! What the socket is to be given next.
//!
//! Owns the frames handed to the driver and how far they are written. Writes many chunks with one
//! system call and copies none.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use ottla_wire::Frame;
use tokio::io::AsyncWrite;

/// Frames on their way into a stream.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    /// Not empty chunks, the first one shortened by what is written of it.
    chunks: VecDeque<Bytes>,
    /// Bytes that each frame still has in `chunks`, oldest first.
    frames: VecDeque<usize>,
    /// Whether some of the oldest frame is written.
    begun: bool,
    /// Bytes in `chunks`.
    len: usize,
}

impl WriteQueue {
    pub(crate) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame.len());
        self.len += frame.len();
        self.chunks.extend(frame.into_chunks());
    }

    /// Bytes not written yet.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the oldest frame is partly written.
    pub(crate) fn is_mid_frame(&self) -> bool {
        self.begun
    }

    /// Writes once. Returns how many bytes were written.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        let written = match &slices[..count] {
            [only] => ready!(Pin::new(stream).poll_write(cx, only))?,
            many => ready!(Pin::new(stream).poll_write_vectored(cx, many))?,
        };
        if written == 0 && self.len > 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(written))
    }

    /// Notes that `written` bytes are written. Returns how many frames that completed.
    pub(crate) fn advance(&mut self, written: usize) -> usize {
        self.len -= written;
        let mut left = written;
        while left > 0 {
            let Some(chunk) = self.chunks.front_mut() else {
                break;
            };
            let step = left.min(chunk.len());
            chunk.advance(step);
            left -= step;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }

        let mut completed = 0;
        left = written;
        while left > 0 {
            let Some(frame) = self.frames.front_mut() else {
                break;
            };
            let step = left.min(*frame);
            *frame -= step;
            left -= step;
            self.begun = *frame > 0;
            if *frame == 0 {
                self.frames.pop_front();
                completed += 1;
            }
        }
        completed
    }
}

/// Chunks given to one system call. A frame is mostly one or two chunks.
const SLICES_MAX: usize = 64;
