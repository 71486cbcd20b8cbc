//! The task that moves bytes between a connection's state machine and its stream.
//!
//! One task for both directions. A wake-up handles all that is ready: it hands every queued frame to
//! the socket in as few system calls as possible, reads until there is no more, and gives the replies
//! out together. It decodes nothing.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::connection::core::{Core, Limits, Outcome};
use crate::connection::frame_reader::{BadLength, FrameReader};
use crate::connection::handle::{Connection, Counters, Shared, State, Waiter, deliver};
use crate::connection::handshake::{Authenticator, Handshake};
use crate::connection::write_queue::WriteQueue;
use crate::error::{CloseCause, Error, Peer};
use crate::transport::Stream;
use crate::watch;

/// What a new connection needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) peer: Peer,
    pub(crate) client_id: Arc<str>,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    /// How long the broker may take to tell its versions.
    pub(crate) negotiation_timeout: Duration,
    pub(crate) frame_bytes_max: usize,
    /// The greatest age.
    pub(crate) lifetime_max: Option<Duration>,
    /// With `retire_at` still open.
    pub(crate) limits: Limits,
}

impl Setup {
    /// Makes a connection of a stream. The driver returned must be spawned; the connection lives
    /// as long as it runs.
    ///
    /// # Errors
    /// Any failure of the handshake. None of them means that a request was sent.
    pub(crate) async fn handshake(
        self,
        stream: Box<dyn Stream>,
    ) -> Result<(Connection, Driver), Error> {
        let mut handshake = Handshake::new(
            stream,
            self.peer.clone(),
            self.client_id.clone(),
            self.frame_bytes_max,
        );
        timeout(self.negotiation_timeout, handshake.negotiate())
            .await
            .unwrap_or_else(|_| Err(self.unanswered(self.negotiation_timeout)))?;
        let mut lifetime_max = self.lifetime_max;
        if let Some(authenticator) = &self.authenticator {
            let patience = self.limits.request_timeout;
            let session = timeout(patience, authenticator.authenticate(&mut handshake))
                .await
                .unwrap_or_else(|_| Err(self.unanswered(patience)))?;
            // As Java does: some time before the end, and not all clients at once.
            let session = session
                .lifetime
                .map(|lifetime| lifetime.mul_f64(0.85 + 0.1 * fastrand::f64()));
            lifetime_max = match (lifetime_max, session) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        let (stream, reader, versions, correlation_id) = handshake.into_parts();

        let now = Instant::now();
        let limits = Limits {
            retire_at: lifetime_max.map(|max| now + max),
            ..self.limits
        };
        let request_timeout = limits.request_timeout;
        let shared = Arc::new(Shared {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            peer: self.peer.clone(),
            versions,
            client_id: self.client_id,
            request_timeout,
            correlation_id: AtomicI32::new(correlation_id),
            counters: Counters::default(),
            state: Mutex::new(State {
                core: Core::new(self.peer, limits, now),
                driver: None,
                close_asked: None,
            }),
            ended: watch::Sender::new(false),
        });
        tracing::debug!(peer = %shared.peer, connection = shared.id, "connected");
        let driver = Driver {
            shared: shared.clone(),
            stream,
            reader,
            writes: WriteQueue::default(),
            flush_due: false,
            timer: Box::pin(sleep_until(now)),
            armed: None,
            bad_length: None,
            frame_bytes_max: self.frame_bytes_max,
            frames: Vec::new(),
            outcomes: Vec::new(),
        };
        Ok((Connection::new(shared), driver))
    }

    fn unanswered(&self, waited: Duration) -> Error {
        Error::Handshake {
            peer: self.peer.clone(),
            reason: format!(
                "it accepted the connection and then did not answer within {} ms; check host and port",
                waited.as_millis()
            ),
            retriable: true,
        }
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Runs one connection until it ends.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    stream: Box<dyn Stream>,
    reader: FrameReader,
    writes: WriteQueue,
    /// Whether the stream may hold back something written (TLS does).
    flush_due: bool,
    timer: Pin<Box<Sleep>>,
    /// When the timer goes off, unless it has no purpose. Never later than the state machine's next
    /// timeout; often earlier, because it is not moved for every reply.
    armed: Option<Instant>,
    /// A length field that was read behind `frames` and cannot be right.
    bad_length: Option<BadLength>,
    frame_bytes_max: usize,
    /// Frames read and not handled; kept for its memory.
    frames: Vec<Bytes>,
    /// Outcomes to be told; kept for its memory.
    outcomes: Vec<Outcome<Waiter>>,
}

impl Driver {
    /// Runs the connection. Ends when the connection does, and says why.
    pub(crate) async fn run(mut self) -> CloseCause {
        let cause = poll_fn(|cx| self.poll(cx)).await;
        tracing::debug!(peer = %self.shared.peer, connection = self.shared.id, %cause, "connection ended");
        self.close(&cause);
        // Tells a TLS peer that nothing was cut off. Nobody waits for it for long.
        let _ = timeout(SHUTDOWN_TIMEOUT, self.stream.shutdown()).await;
        cause
    }

    /// Does all that can be done now. Ready with the reason when the connection must end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseCause> {
        loop {
            let now = Instant::now();
            let (ending, next_timeout) = self.prepare(now, cx);
            deliver(&mut self.outcomes);
            if let Some(cause) = ending {
                return Poll::Ready(cause);
            }

            let (written, write_failure) = self.poll_write(cx);
            let (read, read_failure) = self.poll_read(cx);
            let unexpected = self.settle(now, written, read);
            deliver(&mut self.outcomes);
            // Replies that came before the failure count; of several failures the first to be seen by
            // the state machine says most.
            if let Some(cause) = unexpected.or(read_failure).or(write_failure) {
                return Poll::Ready(cause);
            }
            let idle = written.bytes == 0 && read == 0;
            if idle && !self.poll_timer(next_timeout, cx) {
                return Poll::Pending;
            }
        }
    }

    /// Lets the state machine do what is due and takes the frames that may be sent.
    fn prepare(
        &mut self,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> (Option<CloseCause>, Option<Instant>) {
        let mut state = self.shared.state.lock();
        let ending = state
            .close_asked
            .clone()
            .or_else(|| state.core.handle_timeout(now, &mut self.outcomes));
        let room = WRITE_AHEAD_BYTES.saturating_sub(self.writes.len());
        if room > 0 {
            let writes = &mut self.writes;
            state
                .core
                .take_frames(now, room, |frame| writes.push(frame));
        }
        // From here on a submission wakes this task.
        match &state.driver {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => state.driver = Some(cx.waker().clone()),
        }
        (ending, state.core.next_timeout())
    }

    /// Writes until the stream takes no more. Returns how many frames that completed.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> (Progress, Option<CloseCause>) {
        let mut progress = Progress::default();
        while !self.writes.is_empty() {
            match self.writes.poll_write(cx, &mut self.stream) {
                Poll::Ready(Ok(count)) => {
                    progress.frames += self.writes.advance(count);
                    progress.bytes += count;
                    self.flush_due = true;
                }
                Poll::Ready(Err(error)) => return (progress, Some(CloseCause::Io(error.into()))),
                Poll::Pending => break,
            }
        }
        if self.flush_due {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.flush_due = false,
                Poll::Ready(Err(error)) => return (progress, Some(CloseCause::Io(error.into()))),
                Poll::Pending => {}
            }
        }
        (progress, None)
    }

    /// Reads until the stream has no more, cutting what comes into frames. Returns how many bytes came.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> (usize, Option<CloseCause>) {
        let mut bytes = 0;
        loop {
            match self.reader.poll_read(cx, &mut self.stream) {
                Poll::Ready(Ok(0)) => return (bytes, Some(self.end_of_stream())),
                Poll::Ready(Ok(count)) => bytes += count,
                Poll::Ready(Err(error)) => return (bytes, Some(CloseCause::Io(error.into()))),
                Poll::Pending => return (bytes, None),
            }
            loop {
                match self.reader.next_frame() {
                    Ok(Some(frame)) => self.frames.push(frame),
                    Ok(None) => break,
                    Err(bad) => {
                        self.bad_length = Some(bad);
                        return (bytes, None);
                    }
                }
            }
        }
    }

    /// Tells the state machine what was written and read. Returns why the connection cannot go on.
    fn settle(&mut self, now: Instant, written: Progress, read: usize) -> Option<CloseCause> {
        if written.bytes == 0 && read == 0 {
            return None;
        }
        let counters = &self.shared.counters;
        let add = |counter: &AtomicU64, count: usize| {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        };
        add(&counters.bytes_out, written.bytes);
        add(&counters.bytes_in, read);
        add(&counters.replies, self.frames.len());

        let mut state = self.shared.state.lock();
        let core = &mut state.core;
        core.handle_written(now, written.frames, &mut self.outcomes);
        for frame in self.frames.drain(..) {
            if let Err(cause) = core.handle_frame(now, frame, &mut self.outcomes) {
                return Some(cause);
            }
        }
        let bad = self.bad_length.take()?;
        if bad.is_too_large() {
            core.fail_head(now, &mut self.outcomes, |peer, api| {
                Error::ResponseTooLarge {
                    peer: peer.clone(),
                    api,
                    size: bad.len().unsigned_abs().into(),
                    limit: self.frame_bytes_max,
                }
            });
        }
        Some(CloseCause::Protocol(format!(
            "a frame of {} bytes",
            bad.len()
        )))
    }

    /// Waits for the state machine's next timeout. True if the timer went off.
    fn poll_timer(&mut self, next_timeout: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(at) = next_timeout else {
            return false;
        };
        // A timer that goes off too early costs one look; moving it for every reply would cost more.
        if self.armed.is_none_or(|armed| at < armed) {
            self.timer.as_mut().reset(at);
            self.armed = Some(at);
        }
        let fired = self.timer.as_mut().poll(cx).is_ready();
        if fired {
            self.armed = None;
        }
        fired
    }

    fn end_of_stream(&self) -> CloseCause {
        let state = self.shared.state.lock();
        let answered = state.core.replies() > 0 || !self.frames.is_empty();
        if !answered && state.core.len() > 0 && !self.reader.is_mid_frame() {
            CloseCause::ByPeerUnanswered
        } else {
            CloseCause::ByPeer
        }
    }

    fn close(&mut self, cause: &CloseCause) {
        let mid_frame = self.writes.is_mid_frame();
        let mut state = self.shared.state.lock();
        state.core.close(cause, mid_frame, &mut self.outcomes);
        drop(state);
        deliver(&mut self.outcomes);
        self.shared.ended.send_replace(true);
    }
}

impl Drop for Driver {
    /// A driver that is dropped while it runs, with its runtime, leaves nobody waiting.
    fn drop(&mut self) {
        self.close(&CloseCause::ByClient);
    }
}

/// What a round of writing achieved.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Frames completed.
    frames: usize,
    /// Bytes written.
    bytes: usize,
}

/// How much the driver takes from the queue ahead of the socket. More only blurs, when a deadline
/// passes, what was sent.
const WRITE_AHEAD_BYTES: usize = 256 << 10;

/// How long the end of the connection may take to be told to the other side.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
