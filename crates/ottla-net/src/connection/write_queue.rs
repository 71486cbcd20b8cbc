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

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_wire::encode_request;
    use ottla_wire::messages::heartbeat::HeartbeatRequest;

    /// Takes up to so many bytes at a time, of so many slices.
    struct Sieve {
        taken: Vec<u8>,
        bytes_max: usize,
        slices_seen: usize,
    }

    impl AsyncWrite for Sieve {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.slices_seen = slices.len();
            let mut left = self.bytes_max;
            for slice in slices {
                let count = left.min(slice.len());
                self.taken.extend_from_slice(&slice[..count]);
                left -= count;
            }
            Poll::Ready(Ok(self.bytes_max - left))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn frame(id: i32) -> Frame {
        encode_request(&HeartbeatRequest::default(), 4, id, None).unwrap()
    }

    #[test]
    fn partial_writes_lose_nothing_and_count_frames() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let frames: Vec<_> = (0..200).map(frame).collect();
        let expected: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
        for bytes_max in [1, 3, frame(0).len(), 100, 1 << 20] {
            let mut sieve = Sieve {
                taken: Vec::new(),
                bytes_max,
                slices_seen: 0,
            };
            let mut queue = WriteQueue::default();
            frames.iter().cloned().for_each(|frame| queue.push(frame));
            let mut completed = 0;
            while !queue.is_empty() {
                let Poll::Ready(Ok(count)) = queue.poll_write(&mut cx, &mut sieve) else {
                    panic!("a sieve always takes something");
                };
                completed += queue.advance(count);
                let whole = sieve.taken.len() / frame(0).len();
                let in_part = !sieve.taken.len().is_multiple_of(frame(0).len());
                assert_eq!((completed, queue.is_mid_frame()), (whole, in_part));
            }
            assert!(sieve.taken == expected, "{bytes_max} bytes at a time");
        }
    }

    #[test]
    fn many_frames_go_out_in_one_call() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut sieve = Sieve {
            taken: Vec::new(),
            bytes_max: usize::MAX,
            slices_seen: 0,
        };
        let mut queue = WriteQueue::default();
        (0..10).for_each(|id| queue.push(frame(id)));
        assert!(queue.poll_write(&mut cx, &mut sieve).is_ready());
        assert_eq!(sieve.slices_seen, 10);
    }

    #[test]
    fn a_stream_that_takes_nothing_is_an_error() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut sieve = Sieve {
            taken: Vec::new(),
            bytes_max: 0,
            slices_seen: 0,
        };
        let mut queue = WriteQueue::default();
        queue.push(frame(0));
        assert!(matches!(
            queue.poll_write(&mut cx, &mut sieve),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WriteZero
        ));
    }
}
