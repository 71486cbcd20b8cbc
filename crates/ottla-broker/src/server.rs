//! One connection: frames in, frames out, strictly in order as Kafka's brokers do it.
//!
//! Owns a byte stream of any kind. Reads one request, has [`crate::api`] answer it, writes the answer, and only
//! then reads the next, so that a client that does not read its answers holds one of them and no more.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use ottla_wire::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::api::{self, Answer};
use crate::context::Shared;

/// Serves one client of `node` until it goes, misbehaves, or is silent for too long.
pub(crate) async fn serve<S>(shared: Arc<Shared>, node: i32, client_host: String, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let result = run(&shared, node, &client_host, &mut stream).await;
    if let Err(error) = result {
        tracing::debug!(node, client = client_host, %error, "connection closed");
    }
}

async fn run<S>(
    shared: &Arc<Shared>,
    node: i32,
    client_host: &str,
    stream: &mut S,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let idle_max = shared.options.idle_max;
    let mut input = BytesMut::new();
    loop {
        let frame = read_frame(
            stream,
            &mut input,
            shared.options.request_bytes_max,
            idle_max,
        )
        .await?;
        let Some(body) = frame else { return Ok(()) };
        match api::answer(shared, node, client_host, body).await {
            Answer::Frame(frame) => write_frame(stream, &frame, usize::MAX, idle_max).await?,
            Answer::Nothing => {}
            Answer::Torn(frame, len) => {
                write_frame(stream, &frame, len, idle_max).await?;
                return Ok(());
            }
            Answer::Silence => std::future::pending().await,
            Answer::Close(reason) => return Err(io::Error::other(reason)),
        }
    }
}

/// The next frame's body, `None` at an orderly end. Memory grows only as bytes really come.
async fn read_frame<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    bytes_max: usize,
    idle_max: Duration,
) -> io::Result<Option<Bytes>> {
    while input.len() < 4 {
        if !read_some(stream, input, READ_STEP, idle_max).await? {
            return match input.len() {
                0 => Ok(None),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
    }
    let len = (&input[..4]).get_i32();
    let len = usize::try_from(len)
        .ok()
        .filter(|len| *len <= bytes_max)
        .ok_or_else(|| {
            io::Error::other(format!(
                "a frame of {len} bytes was announced, {bytes_max} are allowed"
            ))
        })?;
    input.advance(4);
    while input.len() < len {
        let step = (len - input.len()).min(READ_STEP.max(input.len()));
        if !read_some(stream, input, step, idle_max).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(input.split_to(len).freeze()))
}

async fn read_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    step: usize,
    idle_max: Duration,
) -> io::Result<bool> {
    input.reserve(step);
    match tokio::time::timeout(idle_max, stream.read_buf(input)).await {
        Ok(read) => Ok(read? > 0),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client was silent for too long",
        )),
    }
}

async fn write_frame<S: AsyncWrite + Unpin>(
    stream: &mut S,
    frame: &Frame,
    len: usize,
    idle_max: Duration,
) -> io::Result<()> {
    let write = async {
        let mut left = len.min(frame.len());
        let mut chunks: Vec<Bytes> = frame.chunks().to_vec();
        let mut first = 0;
        while left > 0 {
            let slices: Vec<IoSlice<'_>> = chunks[first..]
                .iter()
                .take(SLICES_MAX)
                .map(|chunk| IoSlice::new(chunk))
                .collect();
            let mut written = if len >= frame.len() {
                stream.write_vectored(&slices).await?
            } else {
                stream
                    .write(&chunks[first][..left.min(chunks[first].len())])
                    .await?
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            left -= written;
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
    };
    match tokio::time::timeout(idle_max, write).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read its answers",
        )),
    }
}

const READ_STEP: usize = 16 << 10;

/// What one vectored write takes.
const SLICES_MAX: usize = 64;
