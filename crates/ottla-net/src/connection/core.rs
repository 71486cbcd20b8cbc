//! The requests of one connection, from being submitted to being answered.
//!
//! A plain state machine: requests, replies, progress of writing and the time go in; frames to write,
//! outcomes and a reason to close come out. It has no socket, task, clock or lock. The
//! [driver](super::driver) moves bytes between it and a stream.
//!
//! A broker answers the requests of one connection in order, and works on one at a time. Hence:
//!
//! - Replies are matched with the oldest unanswered request. Any other correlation id is an error
//!   that ends the connection.
//! - Only the oldest request tells whether the broker has gone silent. A heartbeat behind a join that
//!   waits for the rest of its group times out without anything being wrong.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use ottla_wire::{ApiKey, Frame, peek_correlation_id};
use tokio::time::Instant;

use crate::error::{CloseCause, Error, Peer, Sent};

/// The state of one connection. `W` is what an outcome is given back with.
#[derive(Debug)]
pub(crate) struct Core<W> {
    peer: Peer,
    limits: Limits,
    /// Unanswered requests, in the order of the wire. The first `written` of them are written whole, the
    /// rest up to `handed` are with the driver, and the others are not: no byte of theirs is sent.
    requests: VecDeque<Request<W>>,
    written: usize,
    /// Always at least `written`.
    handed: usize,
    /// Bytes of the frames that are not with the driver yet.
    queued_bytes: usize,
    /// No deadline of a waiting request is before this.
    deadline_min: Option<Instant>,
    /// When the oldest request became the one that the broker works on.
    head_since: Instant,
    /// Nothing new is sent until then (KIP-219).
    muted_until: Option<Instant>,
    /// When something was last submitted or answered.
    active_at: Instant,
    replies: u64,
    closed: Option<CloseCause>,
}

/// The bounds and patience of one connection. See the fields of the same names of
/// [`ClusterConfig`](crate::ClusterConfig).
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) requests_max: usize,
    pub(crate) queue_bytes_max: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) idle_max: Option<Duration>,
    /// When the connection is to be replaced.
    pub(crate) retire_at: Option<Instant>,
}

/// A request as it is submitted.
#[derive(Debug)]
pub(crate) struct Submission<W> {
    pub(crate) api: ApiKey,
    pub(crate) correlation_id: i32,
    pub(crate) frame: Frame,
    pub(crate) deadline: Instant,
    /// Whether the broker answers it. If not, being written is its outcome.
    pub(crate) answered: bool,
    pub(crate) waiter: W,
}

/// What became of a request: the frame of its reply (empty if it has none), or why there is none.
pub(crate) type Outcome<W> = (W, Result<Bytes, Error>);

#[derive(Debug)]
struct Request<W> {
    api: ApiKey,
    correlation_id: i32,
    submitted_at: Instant,
    deadline: Instant,
    answered: bool,
    /// Until it is with the driver.
    frame: Option<Frame>,
    /// Until its outcome is told: a request may time out and still be answered.
    waiter: Option<W>,
}

impl<W> Core<W> {
    pub(crate) fn new(peer: Peer, limits: Limits, now: Instant) -> Self {
        Self {
            peer,
            limits,
            requests: VecDeque::new(),
            written: 0,
            handed: 0,
            queued_bytes: 0,
            deadline_min: None,
            head_since: now,
            muted_until: None,
            active_at: now,
            replies: 0,
            closed: None,
        }
    }

    /// Takes a request in. It will be sent in the order of these calls.
    ///
    /// # Errors
    /// The connection is closed, due to be replaced, or full.
    pub(crate) fn submit(&mut self, now: Instant, submission: Submission<W>) -> Result<(), Error> {
        let refused = self.closed.clone().or_else(|| {
            self.is_due_for_retirement(now)
                .then_some(CloseCause::Retired)
        });
        if let Some(cause) = refused {
            return Err(Error::Disconnected {
                peer: self.peer.clone(),
                api: Some(submission.api),
                sent: Sent::No,
                cause,
            });
        }
        let queued_bytes = self.queued_bytes + submission.frame.len();
        let too_many_bytes = queued_bytes > self.limits.queue_bytes_max && self.queued_bytes > 0;
        if too_many_bytes || self.requests.len() >= self.limits.requests_max {
            return Err(Error::ConnectionFull {
                peer: self.peer.clone(),
                api: submission.api,
                requests: self.requests.len(),
                bytes: self.queued_bytes,
            });
        }

        // Being told to wait is not being left without an answer: the deadline counts from then on.
        let deadline = submission.deadline + self.muted_for(now);
        self.active_at = now;
        self.queued_bytes = queued_bytes;
        self.note_deadline(deadline);
        self.requests.push_back(Request {
            api: submission.api,
            correlation_id: submission.correlation_id,
            submitted_at: now,
            deadline,
            answered: submission.answered,
            frame: Some(submission.frame),
            waiter: Some(submission.waiter),
        });
        Ok(())
    }

    /// Hands frames out for writing, oldest first, until they make up `bytes`; at least one, if any
    /// may be sent now.
    pub(crate) fn take_frames(&mut self, now: Instant, bytes: usize, mut sink: impl FnMut(Frame)) {
        if self.muted_until.is_some_and(|until| now < until) || self.closed.is_some() {
            return;
        }
        self.muted_until = None;
        let mut taken = 0;
        while taken < bytes && self.handed < self.requests.len() {
            if self.handed == 0 {
                self.head_since = now;
            }
            if let Some(frame) = self.requests[self.handed].frame.take() {
                taken += frame.len();
                self.queued_bytes -= frame.len();
                sink(frame);
            }
            self.handed += 1;
        }
    }

    /// Notes that the oldest `count` frames with the driver are written whole.
    pub(crate) fn handle_written(
        &mut self,
        now: Instant,
        count: usize,
        outcomes: &mut Vec<Outcome<W>>,
    ) {
        for _ in 0..count {
            debug_assert!(
                self.written < self.handed,
                "more was written than handed out"
            );
            if self.requests[self.written].answered {
                self.written += 1;
            } else if let Some(done) = self.requests.remove(self.written) {
                self.handed -= 1;
                self.active_at = now;
                if self.written == 0 {
                    self.head_since = now;
                }
                outcomes.extend(done.waiter.map(|waiter| (waiter, Ok(Bytes::new()))));
            }
        }
    }

    /// Matches a reply with its request.
    ///
    /// # Errors
    /// It answers nothing that was asked, or not what was asked first: the connection cannot go on.
    pub(crate) fn handle_frame(
        &mut self,
        now: Instant,
        frame: Bytes,
        outcomes: &mut Vec<Outcome<W>>,
    ) -> Result<(), CloseCause> {
        let Some(id) = peek_correlation_id(&frame) else {
            let text = format!("a frame of {} bytes, too short for a response", frame.len());
            return Err(CloseCause::Protocol(text));
        };
        if self.written == 0 {
            let text = format!("a response (correlation id {id}) to nothing that was asked");
            return Err(CloseCause::Protocol(text));
        }
        let expected = self.requests[0].correlation_id;
        if id != expected {
            let text = format!("a response with correlation id {id} where {expected} was next");
            return Err(CloseCause::Protocol(text));
        }
        if let Some(request) = self.pop_head(now) {
            outcomes.extend(request.waiter.map(|waiter| (waiter, Ok(frame))));
        }
        self.replies += 1;
        Ok(())
    }

    /// Fails the oldest request with the error that its reply makes, before the connection closes.
    pub(crate) fn fail_head(
        &mut self,
        now: Instant,
        outcomes: &mut Vec<Outcome<W>>,
        error: impl FnOnce(&Peer, ApiKey) -> Error,
    ) {
        if self.written > 0
            && let Some(request) = self.pop_head(now)
            && let Some(waiter) = request.waiter
        {
            outcomes.push((waiter, Err(error(&self.peer, request.api))));
        }
    }

    /// Sends nothing more for a while, as the broker asks (KIP-219). Deadlines move back by as much:
    /// the broker answers nothing meanwhile, and being throttled is waiting, not failure.
    pub(crate) fn mute(&mut self, now: Instant, duration: Duration) {
        let until = now + duration.min(MUTE_MAX);
        let already = self.muted_for(now);
        let Some(more) = until.checked_duration_since(now + already) else {
            return;
        };
        if more.is_zero() {
            return;
        }
        self.muted_until = Some(until);
        for request in &mut self.requests {
            request.deadline += more;
        }
        self.deadline_min = self.deadline_min.map(|deadline| deadline + more);
        // From then on the broker works on the oldest request again.
        self.head_since = self.head_since.max(until);
    }

    /// Does what is due, and says why the connection must end now, if it must.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        outcomes: &mut Vec<Outcome<W>>,
    ) -> Option<CloseCause> {
        if self.closed.is_some() {
            return None;
        }
        self.muted_until = self.muted_until.filter(|until| *until > now);
        if self.deadline_min.is_some_and(|deadline| deadline <= now) {
            self.expire(now, outcomes);
        }
        if self.silent_at().is_some_and(|at| at <= now) {
            return Some(CloseCause::Silent(now - self.head_since));
        }
        if !self.requests.is_empty() {
            return None;
        }
        if self.is_due_for_retirement(now) {
            return Some(CloseCause::Retired);
        }
        self.idle_at()
            .is_some_and(|at| at <= now)
            .then_some(CloseCause::Idle)
    }

    /// When [`Core::handle_timeout`] or [`Core::take_frames`] has something to do at the latest. May be
    /// too early, never too late.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        if self.closed.is_some() {
            return None;
        }
        let unmuted_at = self
            .muted_until
            .filter(|_| self.handed < self.requests.len());
        let unused_at = if self.requests.is_empty() {
            earliest(self.idle_at(), self.limits.retire_at)
        } else {
            None
        };
        earliest(
            earliest(self.deadline_min, self.silent_at()),
            earliest(unmuted_at, unused_at),
        )
    }

    /// Fails all requests, those that were not sent as such, and takes no more.
    ///
    /// `mid_frame` says whether the oldest frame that is not written whole is written in part.
    pub(crate) fn close(
        &mut self,
        cause: &CloseCause,
        mid_frame: bool,
        outcomes: &mut Vec<Outcome<W>>,
    ) {
        if self.closed.is_some() {
            return;
        }
        let begun = self.written + usize::from(mid_frame);
        for (n, request) in self.requests.drain(..).enumerate() {
            let error = Error::Disconnected {
                peer: self.peer.clone(),
                api: Some(request.api),
                sent: if n < begun { Sent::Maybe } else { Sent::No },
                cause: cause.clone(),
            };
            outcomes.extend(request.waiter.map(|waiter| (waiter, Err(error))));
        }
        (self.written, self.handed, self.queued_bytes) = (0, 0, 0);
        self.deadline_min = None;
        self.closed = Some(cause.clone());
    }

    /// Whether the next request would be refused because the connection has ended or is to be replaced.
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        self.closed.is_none() && !self.is_due_for_retirement(now)
    }

    /// Unanswered requests, sent or not.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Replies received so far.
    pub(crate) fn replies(&self) -> u64 {
        self.replies
    }

    /// How much longer nothing new may be sent.
    pub(crate) fn muted_for(&self, now: Instant) -> Duration {
        self.muted_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    fn pop_head(&mut self, now: Instant) -> Option<Request<W>> {
        let request = self.requests.pop_front()?;
        self.written -= 1;
        self.handed -= 1;
        self.head_since = now;
        self.active_at = now;
        if self.requests.is_empty() {
            self.deadline_min = None;
        }
        Some(request)
    }

    /// Tells the requests whose deadline has passed. Those never handed out are forgotten; the others
    /// keep their place, for their replies may still come.
    fn expire(&mut self, now: Instant, outcomes: &mut Vec<Outcome<W>>) {
        self.deadline_min = None;
        let mut kept_deadline: Option<Instant> = None;
        let mut index = 0;
        let handed = self.handed;
        let queued_bytes = &mut self.queued_bytes;
        let peer = &self.peer;
        self.requests.retain_mut(|request| {
            let sent = index < handed;
            index += 1;
            if request.waiter.is_none() {
                return true;
            }
            if request.deadline > now {
                kept_deadline = earliest(kept_deadline, Some(request.deadline));
                return true;
            }
            let error = Error::TimedOut {
                peer: peer.clone(),
                api: request.api,
                sent: if sent { Sent::Maybe } else { Sent::No },
                waited: now - request.submitted_at,
            };
            outcomes.extend(request.waiter.take().map(|waiter| (waiter, Err(error))));
            if !sent {
                *queued_bytes -= request.frame.as_ref().map_or(0, Frame::len);
            }
            sent
        });
        self.deadline_min = kept_deadline;
    }

    /// When the broker's silence is long enough to give the connection up.
    fn silent_at(&self) -> Option<Instant> {
        let head = self.requests.front().filter(|_| self.handed > 0)?;
        Some(
            head.deadline
                .max(self.head_since + self.limits.request_timeout),
        )
    }

    fn idle_at(&self) -> Option<Instant> {
        self.limits.idle_max.map(|max| self.active_at + max)
    }

    fn is_due_for_retirement(&self, now: Instant) -> bool {
        self.limits.retire_at.is_some_and(|at| at <= now)
    }

    fn note_deadline(&mut self, deadline: Instant) {
        self.deadline_min = earliest(self.deadline_min, Some(deadline));
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The longest that one answer can make a client wait. Kafka's quota windows are eleven times one second by
/// default, and a broker throttles for no longer than they last: more than this is a mistake, or worse.
const MUTE_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
