//! A network in memory whose every fault comes from a seed.
//!
//! Owns the streams between clients and the embedded cluster's nodes. It delays, splits and cuts them; it never
//! repeats or reorders bytes, as TCP never does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fastrand::Rng;
use ottla_broker::EmbeddedCluster;
use ottla_net::Address;
use ottla_net::transport::{BoxFuture, Connector, Stream};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::Sleep;

use crate::chaos::Weather;

/// Connects clients to the nodes of an embedded cluster; node `n` listens at `memory:n`.
#[derive(Debug)]
pub(crate) struct SimConnector {
    cluster: Arc<EmbeddedCluster>,
    weather: Arc<Weather>,
}

impl SimConnector {
    pub(crate) fn new(cluster: Arc<EmbeddedCluster>, weather: Arc<Weather>) -> Self {
        Self { cluster, weather }
    }
}

impl Connector for SimConnector {
    fn connect<'a>(
        &'a self,
        address: &'a Address,
        timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let mut rng = self.weather.fork();
            let pause = if self.weather.is_fair() {
                0
            } else {
                rng.u64(0..50)
            };
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if !self.weather.is_fair() && rng.f64() < CONNECT_SWALLOWED {
                tokio::time::sleep(timeout).await;
                return Err(io::ErrorKind::TimedOut.into());
            }
            let stream = self
                .cluster
                .connect(i32::from(address.port()))
                .ok_or(io::ErrorKind::ConnectionRefused)?;
            let stream = FaultyStream::new(stream, rng, Arc::clone(&self.weather));
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// One direction's share of a connection's fate.
#[derive(Debug, Default)]
struct Direction {
    /// Bytes after which the connection breaks, if it is to.
    cut_after: Option<u64>,
    passed: u64,
    pause: Option<Pin<Box<Sleep>>>,
    /// The bytes now at hand have waited already.
    paused_for_these: bool,
}

/// A stream that is slow, comes in pieces, and may break at any byte of either direction.
#[derive(Debug)]
struct FaultyStream {
    inner: Option<DuplexStream>,
    rng: Rng,
    weather: Arc<Weather>,
    inbound: Direction,
    outbound: Direction,
}

impl FaultyStream {
    fn new(inner: DuplexStream, mut rng: Rng, weather: Arc<Weather>) -> Self {
        let mut stream = Self {
            inner: Some(inner),
            inbound: Direction::default(),
            outbound: Direction::default(),
            weather,
            rng: Rng::with_seed(0),
        };
        if !stream.weather.is_fair() {
            let mut cut = || (rng.f64() < CUT).then(|| rng.u64(1..20_000));
            stream.inbound.cut_after = cut();
            stream.outbound.cut_after = cut();
        }
        stream.rng = rng;
        stream
    }

    /// How many of `len` bytes pass now: some, or an error when the connection is to break here.
    fn admit(&mut self, inbound: bool, len: usize) -> io::Result<usize> {
        if self.weather.is_fair() {
            return Ok(len);
        }
        let direction = if inbound {
            &mut self.inbound
        } else {
            &mut self.outbound
        };
        let mut admitted = len;
        if self.rng.f64() < SPLIT {
            admitted = self.rng.usize(1..=len.max(1));
        }
        if let Some(cut) = direction.cut_after {
            let left = cut.saturating_sub(direction.passed);
            if left == 0 {
                self.inner = None;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            admitted = admitted.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        Ok(admitted)
    }

    /// Now and then nothing moves for a while.
    fn poll_pause(&mut self, context: &mut Context<'_>, inbound: bool) -> Poll<()> {
        let fair = self.weather.is_fair();
        let direction = if inbound {
            &mut self.inbound
        } else {
            &mut self.outbound
        };
        if direction.pause.is_none() && !direction.paused_for_these && !fair {
            direction.paused_for_these = true;
            let roll = self.rng.f64();
            if roll < PAUSE {
                // Mostly a network's milliseconds, seldom a stall of seconds.
                let longest = if roll < STALL { 20_000 } else { 40 };
                let pause = Duration::from_millis(self.rng.u64(1..=longest));
                direction.pause = Some(Box::pin(tokio::time::sleep(pause)));
            }
        }
        if let Some(pause) = &mut direction.pause {
            ready!(pause.as_mut().poll(context));
            direction.pause = None;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for FaultyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_pause(context, true));
        let len = self.admit(true, buffer.remaining())?;
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(len));
        ready!(Pin::new(inner).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        self.inbound.passed += read as u64;
        self.inbound.paused_for_these = false;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pause(context, false));
        let len = self.admit(false, bytes.len())?;
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let written = ready!(Pin::new(inner).poll_write(context, &bytes[..len]))?;
        self.outbound.passed += written as u64;
        self.outbound.paused_for_these = false;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_flush(context),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// Share of connection attempts that nobody answers.
const CONNECT_SWALLOWED: f64 = 0.03;
/// Share of directions of connections that break at some byte.
const CUT: f64 = 0.25;
/// Share of reads and writes that move only part of what they could.
const SPLIT: f64 = 0.3;
/// Share of reads and writes before which nothing moves for a while.
const PAUSE: f64 = 0.15;
/// Share of them before which that is for seconds.
const STALL: f64 = 0.002;
