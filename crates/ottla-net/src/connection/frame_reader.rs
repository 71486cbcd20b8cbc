//! Cuts a byte stream into frames.
//!
//! Owns the receive buffers. Small frames are slices of one shared buffer, several to a read. A large
//! frame is read straight into a buffer of its own, so that a fetch response is one piece of memory
//! that nobody copied. A length is only believed as far as bytes really arrive: the buffer of a large
//! frame starts at [`TRUST_BYTES`], or at the size of the largest frame that this stream has delivered in
//! full, and then at most doubles what is there. So a stream of large frames is not copied while buffers
//! grow, and nobody gets memory for a promise.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// Reads frames off a stream, one read at a time.
#[derive(Debug)]
pub(crate) struct FrameReader {
    /// What has been read of small frames, and of the head of a large one. Starts at a length field.
    shared: BytesMut,
    /// The large frame that is being read; `shared` is empty meanwhile.
    large: Option<LargeFrame>,
    /// The greatest length accepted.
    frame_bytes_max: usize,
    /// How much memory a length field is good for before its bytes arrive.
    trusted_bytes: usize,
}

#[derive(Debug)]
struct LargeFrame {
    /// Never more than `len` bytes.
    body: BytesMut,
    len: usize,
}

impl FrameReader {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self {
            shared: BytesMut::new(),
            large: None,
            frame_bytes_max,
            trusted_bytes: TRUST_BYTES,
        }
    }

    /// Reads once. `Ready(Ok(0))` is the end of the stream.
    pub(crate) fn poll_read<S: AsyncRead + Unpin + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        match &mut self.large {
            Some(LargeFrame { body, len }) => {
                let missing = *len - body.len();
                if body.capacity() == body.len() {
                    body.reserve(missing.min(body.len().max(TRUST_BYTES)));
                }
                let room = missing.min(body.capacity() - body.len());
                poll_read_buf(Pin::new(stream), cx, &mut body.limit(room))
            }
            None => {
                if self.shared.capacity() - self.shared.len() < READ_BYTES_MIN {
                    self.shared.reserve(SHARED_BYTES);
                }
                poll_read_buf(Pin::new(stream), cx, &mut self.shared)
            }
        }
    }

    /// The next whole frame, without its length field; `None` until more is read.
    ///
    /// # Errors
    /// The length field cannot be right. Nothing more can be read from this stream.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Bytes>, BadLength> {
        if let Some(large) = self.large.take_if(|large| large.body.len() == large.len) {
            self.trusted_bytes = self.trusted_bytes.max(large.len);
            return Ok(Some(large.body.freeze()));
        }
        let Some(&prefix) = self.shared.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let len = match usize::try_from(i32::from_be_bytes(prefix)) {
            Ok(len) if len < FRAME_BYTES_MIN => return Err(BadLength { prefix }),
            Ok(len) if len > self.frame_bytes_max => return Err(BadLength { prefix }),
            Ok(len) => len,
            Err(_) => return Err(BadLength { prefix }),
        };
        if self.shared.len() >= LENGTH_BYTES + len {
            self.shared.advance(LENGTH_BYTES);
            return Ok(Some(self.shared.split_to(len).freeze()));
        }
        if len > SHARED_FRAME_BYTES_MAX {
            let mut body = BytesMut::with_capacity(len.min(self.trusted_bytes));
            body.extend_from_slice(&self.shared[LENGTH_BYTES..]);
            self.shared.clear();
            self.large = Some(LargeFrame { body, len });
        }
        Ok(None)
    }

    /// Whether the stream ended, if it ends now, within a frame.
    pub(crate) fn is_mid_frame(&self) -> bool {
        self.large.is_some() || !self.shared.is_empty()
    }

    /// The first bytes of what is being read, when there are four: what they are if they are no length.
    pub(crate) fn peek_prefix(&self) -> Option<[u8; LENGTH_BYTES]> {
        self.shared.first_chunk().copied()
    }
}

/// A length field that announces less than a header or more than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadLength {
    /// The field as it came.
    pub(crate) prefix: [u8; LENGTH_BYTES],
}

impl BadLength {
    /// The length announced, in bytes.
    pub(crate) fn len(self) -> i32 {
        i32::from_be_bytes(self.prefix)
    }

    /// Whether it is a length, only too great a one.
    pub(crate) fn is_too_large(self) -> bool {
        self.len() >= 0 && self.len() as usize >= FRAME_BYTES_MIN
    }
}

const LENGTH_BYTES: usize = 4;

/// Every response starts with a correlation id.
const FRAME_BYTES_MIN: usize = 4;

/// The size of the buffer that small frames share.
const SHARED_BYTES: usize = 16 << 10;

/// Reads into less room than this are not worth a system call.
const READ_BYTES_MIN: usize = 4 << 10;

/// A longer frame that has not come whole gets a buffer of its own.
const SHARED_FRAME_BYTES_MAX: usize = 4 << 10;

/// How much memory the first large length field of a stream is good for before its bytes arrive.
const TRUST_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use tokio::io::ReadBuf;

    /// Gives out its bytes in pieces of given sizes.
    struct Pieces(VecDeque<Bytes>);

    impl Pieces {
        fn cut(bytes: &[u8], at: &[usize]) -> Self {
            let mut pieces = VecDeque::new();
            let mut start = 0;
            for &end in at.iter().chain([&bytes.len()]) {
                pieces.push_back(Bytes::copy_from_slice(&bytes[start..end]));
                start = end;
            }
            pieces.retain(|piece| !piece.is_empty());
            Self(pieces)
        }
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(piece) = self.0.front_mut() {
                let count = piece.len().min(buf.remaining());
                buf.put_slice(&piece.split_to(count));
                if piece.is_empty() {
                    self.0.pop_front();
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    fn read_all(reader: &mut FrameReader, stream: &mut Pieces) -> Result<Vec<Bytes>, BadLength> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut frames = Vec::new();
        loop {
            while let Some(frame) = reader.next_frame()? {
                frames.push(frame);
            }
            match reader.poll_read(&mut cx, stream) {
                Poll::Ready(Ok(0)) => return Ok(frames),
                Poll::Ready(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for body in bodies {
            bytes.extend_from_slice(&(body.len() as i32).to_be_bytes());
            bytes.extend_from_slice(body);
        }
        bytes
    }

    fn body(len: usize, seed: u8) -> Vec<u8> {
        (0..len)
            .map(|n| (n as u8).wrapping_mul(31) ^ seed)
            .collect()
    }

    #[test]
    fn a_cut_at_any_byte_gives_the_same_frames() {
        let bodies = [body(4, 1), body(9, 2), body(4, 3), body(30, 4)];
        let bytes = framed(&bodies);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut reader = FrameReader::new(1000);
                let mut stream = Pieces::cut(&bytes, &[first, second]);
                assert_eq!(read_all(&mut reader, &mut stream).unwrap(), bodies);
                assert!(!reader.is_mid_frame());
            }
        }
    }

    #[test]
    fn frames_of_every_size_class_come_out_whole() {
        let sizes = [
            4,
            SHARED_FRAME_BYTES_MAX,
            SHARED_FRAME_BYTES_MAX + 1,
            SHARED_BYTES - 4,
            SHARED_BYTES,
            TRUST_BYTES,
            3 * TRUST_BYTES + 17,
            5,
        ];
        let bodies: Vec<_> = sizes.iter().map(|&n| body(n, n as u8)).collect();
        let bytes = framed(&bodies);
        for step in [999, 65_536, usize::MAX] {
            let cuts: Vec<_> = (0..bytes.len()).step_by(step.min(bytes.len())).collect();
            let mut stream = Pieces::cut(&bytes, &cuts);
            let mut reader = FrameReader::new(1 << 30);
            assert!(
                read_all(&mut reader, &mut stream).unwrap() == bodies,
                "step {step}"
            );
        }
    }

    #[test]
    fn a_hostile_length_takes_no_more_memory_than_its_bytes_justify() {
        let mut reader = FrameReader::new(i32::MAX as usize);
        let mut bytes = i32::MAX.to_be_bytes().to_vec();
        bytes.extend(body(100, 0));
        assert!(
            read_all(&mut reader, &mut Pieces::cut(&bytes, &[]))
                .unwrap()
                .is_empty()
        );
        let large = reader.large.as_ref().unwrap();
        assert!(
            large.body.capacity() <= TRUST_BYTES,
            "{}",
            large.body.capacity()
        );
        assert!(reader.is_mid_frame());

        read_all(
            &mut reader,
            &mut Pieces::cut(&body(5 * TRUST_BYTES, 0), &[]),
        )
        .unwrap();
        let large = reader.large.as_ref().unwrap();
        assert!(large.body.capacity() <= 4 * large.body.len());
    }

    #[test]
    fn a_stream_that_delivered_large_frames_is_trusted_with_as_much() {
        let mut reader = FrameReader::new(1 << 30);
        let first = framed(&[body(5 * TRUST_BYTES, 0)]);
        assert_eq!(
            read_all(&mut reader, &mut Pieces::cut(&first, &[]))
                .unwrap()
                .len(),
            1
        );
        // The next promises a gigabyte and brings a little.
        let mut bytes = (1_i32 << 29).to_be_bytes().to_vec();
        bytes.extend(body(100, 0));
        read_all(&mut reader, &mut Pieces::cut(&bytes, &[])).unwrap();
        let large = reader.large.as_ref().unwrap();
        assert_eq!(large.body.capacity(), 5 * TRUST_BYTES);
    }

    #[test]
    fn lengths_that_cannot_be_right_are_errors() {
        for (prefix, too_large) in [
            ([0xff; 4], false),
            ([0; 4], false),
            ([0, 0, 0, 3], false),
            ([0x80, 0, 0, 0], false),
            ([0, 0, 3, 0xe9], true),
            (*b"HTTP", true),
        ] {
            let mut reader = FrameReader::new(1000);
            let error = read_all(&mut reader, &mut Pieces::cut(&prefix, &[])).unwrap_err();
            assert_eq!((error.prefix, error.is_too_large()), (prefix, too_large));
        }
        let mut reader = FrameReader::new(1000);
        let frames = read_all(
            &mut reader,
            &mut Pieces::cut(&framed(&[body(1000, 0)]), &[]),
        );
        assert_eq!(frames.unwrap().len(), 1);
    }
}
