//! One connection: frames in, frames out, strictly in order as Kafka's brokers do it.
//!
//! Owns a byte stream of any kind. Reads one request, has [`crate::api`] answer it, writes the answer, and only
//! then reads the next, so that a client that does not read its answers holds one of them and no more. What a
//! client sends meanwhile is taken in up to [`READ_AHEAD_MAX`], which is also how its going is noticed: a request
//! that is parked is then given up.
//!
//! An idle connection holds no buffer. None is larger than what has really come, whatever a client announces.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use ottla_wire::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use crate::api::{self, Answer};
use crate::context::Shared;

/// Serves one client of `node` until it goes, misbehaves, or is silent for too long.
pub(crate) async fn serve<S>(shared: Arc<Shared>, node: i32, client_host: String, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection {
        stream,
        input: BytesMut::new(),
        request_bytes_max: shared.options.request_bytes_max,
        idle_max: shared.options.idle_max,
        largest: 0,
    };
    let id = shared.connection();
    // Whatever ends this, also when it is dropped.
    let _gone = Gone {
        shared: &shared,
        id,
    };
    if let Err(error) = run(&mut connection, &shared, node, &client_host, id).await {
        tracing::debug!(node, client = client_host, %error, "connection closed");
    }
}

/// Tells that a connection is gone.
struct Gone<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.shared.disconnected(self.id);
    }
}

async fn run<S>(
    connection: &mut Connection<S>,
    shared: &Arc<Shared>,
    node: i32,
    client_host: &str,
    id: u64,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(body) = connection.read_frame().await? {
        // On the heap while it lasts: an idle connection need not hold room for every kind of request.
        let handling = Box::pin(api::answer(shared, node, client_host, id, body));
        match connection.meanwhile(handling).await? {
            Answer::Frame(frame) => connection.write_frame(&frame, usize::MAX).await?,
            Answer::Nothing => {}
            Answer::Torn(frame, len) => return connection.write_frame(&frame, len).await,
            Answer::Silence => return connection.ignore().await,
            Answer::Close(reason) => return Err(io::Error::other(reason)),
        }
    }
    Ok(())
}

/// A stream of bytes as frames.
#[derive(Debug)]
struct Connection<S> {
    stream: S,
    /// What was read and not yet taken for a frame.
    input: BytesMut,
    request_bytes_max: usize,
    /// How long nothing may come, a frame may take to come whole, and an answer to be taken.
    idle_max: Duration,
    /// The largest request so far: another like it is given its room at once.
    largest: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The next frame's body, `None` at an orderly end.
    async fn read_frame(&mut self) -> io::Result<Option<Bytes>> {
        if self.input.is_empty() {
            let idle_max = self.idle_max;
            match timeout(idle_max, self.read_some(1)).await {
                Ok(Ok(0)) => return Ok(None),
                Ok(read) => drop(read?),
                Err(_) => return Err(timed_out("the client was silent for too long")),
            }
        }
        // A few bytes now and then do not keep a connection open.
        timeout(self.idle_max, self.read_rest())
            .await
            .unwrap_or_else(|_| Err(timed_out("a request did not come whole in time")))
            .map(Some)
    }

    /// The rest of a frame of which a first byte is there.
    async fn read_rest(&mut self) -> io::Result<Bytes> {
        while self.input.len() < LEN_LEN {
            self.read_more(LEN_LEN).await?;
        }
        let announced = (&self.input[..LEN_LEN]).get_i32();
        let len = usize::try_from(announced)
            .ok()
            .filter(|len| *len <= self.request_bytes_max)
            .ok_or_else(|| {
                io::Error::other(format!(
                    "a request of {announced} bytes was announced, socket.request.max.bytes is {}",
                    self.request_bytes_max
                ))
            })?;
        self.input.advance(LEN_LEN);
        while self.input.len() < len {
            self.read_more(len - self.input.len()).await?;
        }
        self.largest = self.largest.max(len);
        let frame = if self.input.len() == len {
            std::mem::take(&mut self.input)
        } else {
            self.input.split_to(len)
        };
        Ok(frame.freeze())
    }

    async fn read_more(&mut self, missing: usize) -> io::Result<()> {
        match self.read_some(missing).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads what is there, and hardly more than `wanted` if that is much. 0 at the end. Cancel-safe.
    async fn read_some(&mut self, wanted: usize) -> io::Result<usize> {
        if wanted > SCRATCH_LEN {
            // As much again as has come, so that what is announced costs nothing until it comes; or as much as has
            // come before, so that buffers of busy clients need not grow in steps.
            let known = self.largest.saturating_sub(self.input.len());
            let step = wanted.min(SCRATCH_LEN.max(self.input.len()).max(known));
            self.input.reserve(step);
            // No more than that: a request that shares its buffer with the next cannot be kept without a copy.
            let mut rest = (&mut self.stream).take(wanted as u64);
            return rest.read_buf(&mut self.input).await;
        }
        std::future::poll_fn(|cx| {
            let mut scratch = [const { MaybeUninit::uninit() }; SCRATCH_LEN];
            let mut read = ReadBuf::uninit(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            self.input.extend_from_slice(read.filled());
            io::Result::Ok(read.filled().len()).into()
        })
        .await
    }

    /// Waits for `handling`, and takes in what the client sends meanwhile. If the client goes, so does the request,
    /// unless it is done at once.
    async fn meanwhile(&mut self, handling: impl Future<Output = Answer>) -> io::Result<Answer> {
        let mut handling = pin!(handling);
        loop {
            tokio::select! {
                biased;
                answer = &mut handling => return Ok(answer),
                read = self.read_some(1), if self.input.len() < READ_AHEAD_MAX => {
                    if read? == 0 {
                        // It may have closed its sending half only, and still read.
                        return timeout(GRACE, handling).await.map_err(|_| {
                            io::Error::new(
                                io::ErrorKind::UnexpectedEof,
                                "the client went while its request waited",
                            )
                        });
                    }
                }
            }
        }
    }

    /// Writes the first `len` bytes of a frame, or all.
    async fn write_frame(&mut self, frame: &Frame, len: usize) -> io::Result<()> {
        timeout(self.idle_max, write(&mut self.stream, frame, len))
            .await
            .unwrap_or_else(|_| Err(timed_out("the client does not read its answers")))
    }

    /// Reads and forgets, until the client goes.
    async fn ignore(&mut self) -> io::Result<()> {
        loop {
            self.input.clear();
            match timeout(self.idle_max, self.read_some(1)).await {
                Ok(Ok(0)) => return Ok(()),
                Ok(read) => drop(read?),
                Err(_) => return Err(timed_out("the client was silent for too long")),
            }
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, frame: &Frame, len: usize) -> io::Result<()> {
    let mut chunks: Vec<Bytes> = frame.chunks().to_vec();
    if len < frame.len() {
        let mut left = len;
        for chunk in &mut chunks {
            chunk.truncate(left);
            left -= chunk.len();
        }
    }
    let mut first = 0;
    while first < chunks.len() {
        if chunks[first].is_empty() {
            first += 1;
            continue;
        }
        let slices: Vec<IoSlice<'_>> = chunks[first..]
            .iter()
            .take(SLICES_MAX)
            .map(|chunk| IoSlice::new(chunk))
            .collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let step = written.min(chunks[first].len());
            chunks[first].advance(step);
            written -= step;
            if chunks[first].is_empty() {
                first += 1;
            }
        }
    }
    stream.flush().await
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// Length of a frame's own length.
const LEN_LEN: usize = 4;

/// Up to so many bytes are read onto the stack first.
const SCRATCH_LEN: usize = 16 << 10;

/// Bytes that are read while a request is handled.
const READ_AHEAD_MAX: usize = 64 << 10;

/// How long the request of a client that has closed its side may go on.
const GRACE: Duration = Duration::from_secs(1);

/// What one vectored write takes.
const SLICES_MAX: usize = 64;
