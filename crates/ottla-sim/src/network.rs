//! A network in memory whose every fault comes from a seed.
//!
//! Owns the streams between clients and the embedded cluster's nodes. It delays, splits and cuts them, and now and then
//! nothing reaches a node for a while; it never repeats or reorders bytes, as TCP never does.

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
use tokio::time::{Instant, Sleep};

use crate::chaos::Weather;
use crate::faults::FaultKind;
use crate::history::History;
use crate::tap::{Seat, Tap};

/// Connects one client to the nodes of an embedded cluster; node `n` listens at `memory:n`.
#[derive(Debug)]
pub(crate) struct SimConnector {
    cluster: Arc<EmbeddedCluster>,
    weather: Arc<Weather>,
    history: Arc<History>,
    seat: Arc<Seat>,
}

impl SimConnector {
    pub(crate) fn new(
        cluster: Arc<EmbeddedCluster>,
        weather: Arc<Weather>,
        history: Arc<History>,
        seat: Arc<Seat>,
    ) -> Self {
        Self {
            cluster,
            weather,
            history,
            seat,
        }
    }
}

impl SimConnector {
    /// Asks for a connection as TCP does, again and again at growing intervals, while nothing comes
    /// through to the node or, if `ignored`, this one attempt is lost on the way.
    async fn knock(&self, node: i32, ignored: bool, timeout: Duration) -> io::Result<()> {
        let deadline = Instant::now() + timeout;
        let mut pause = FIRST_KNOCK_AGAIN;
        let unheard = || {
            let cut_off = self.weather.cut_off_until(node).is_some();
            !self.weather.is_fair() && (ignored || cut_off)
        };
        while unheard() {
            tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await;
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            pause *= 2;
        }
        Ok(())
    }
}

impl Connector for SimConnector {
    fn connect<'a>(
        &'a self,
        address: &'a Address,
        timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let node = i32::from(address.port());
            let mut rng = self.weather.fork();
            let pause = if self.weather.is_fair() {
                0
            } else {
                rng.u64(0..50)
            };
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if !self.weather.is_fair() {
                let ignored = rng.f64() < CONNECT_IGNORED;
                if ignored {
                    self.weather.faults().note(FaultKind::ConnectIgnored);
                }
                self.knock(node, ignored, timeout).await?;
            }
            if self.seat.is_dead() {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let stream = self
                .cluster
                .connect(node)
                .ok_or(io::ErrorKind::ConnectionRefused)?;
            let tap = Tap::new(Arc::clone(&self.seat), node, Arc::clone(&self.history));
            let stream = FaultyStream::new(stream, node, rng, Arc::clone(&self.weather), tap);
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
    node: i32,
    rng: Rng,
    weather: Arc<Weather>,
    tap: Tap,
    inbound: Direction,
    outbound: Direction,
}

impl FaultyStream {
    fn new(inner: DuplexStream, node: i32, mut rng: Rng, weather: Arc<Weather>, tap: Tap) -> Self {
        let (mut inbound, mut outbound) = (Direction::default(), Direction::default());
        if !weather.is_fair() {
            let mut cut = || (rng.f64() < CUT).then(|| rng.u64(1..20_000));
            inbound.cut_after = cut();
            outbound.cut_after = cut();
        }
        Self {
            inner: Some(inner),
            node,
            rng,
            weather,
            tap,
            inbound,
            outbound,
        }
    }

    /// How many of `len` bytes pass now: some, or an error when the connection is to break here.
    fn admit(&mut self, inbound: bool, len: usize) -> io::Result<usize> {
        if self.tap.is_dead() {
            self.inner = None;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
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
                if self.inner.take().is_some() && self.tap.is_in_frame(inbound) {
                    self.weather.faults().note(FaultKind::CutInFrame);
                }
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            admitted = admitted.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        if admitted < len && !inbound {
            self.weather.faults().note(FaultKind::Split);
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
            let cut_off = self.weather.cut_off_until(self.node);
            if let Some(until) = cut_off {
                let pause = until.saturating_duration_since(Instant::now());
                direction.pause = Some(Box::pin(tokio::time::sleep(pause)));
            } else if roll < PAUSE {
                // Mostly a network's milliseconds, seldom a stall of seconds.
                let (kind, longest) = match roll < STALL {
                    true => (FaultKind::Stall, 20_000),
                    false => (FaultKind::Delay, 40),
                };
                self.weather.faults().note(kind);
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
        self.tap.hear_inbound(part.filled());
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
        self.tap.hear_waiting();
        ready!(self.poll_pause(context, false));
        let len = self.admit(false, bytes.len())?;
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let written = ready!(Pin::new(inner).poll_write(context, &bytes[..len]))?;
        self.tap.hear_outbound(&bytes[..written]);
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
const CONNECT_IGNORED: f64 = 0.03;
/// After how long an attempt that nobody answered is made again; each time after twice as long.
const FIRST_KNOCK_AGAIN: Duration = Duration::from_secs(1);
/// Share of directions of connections that break at some byte.
const CUT: f64 = 0.25;
/// Share of reads and writes that move only part of what they could.
const SPLIT: f64 = 0.3;
/// Share of reads and writes before which nothing moves for a while.
const PAUSE: f64 = 0.15;
/// Share of them before which that is for seconds.
const STALL: f64 = 0.002;
