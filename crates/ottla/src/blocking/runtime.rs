//! The runtime behind the blocking types, and the one place that waits on it.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, EnterGuard, Handle};

use super::error::Error;

/// Ends without waiting when the last of what uses it is dropped, on whatever thread.
#[derive(Debug)]
pub(super) struct Runtime {
    /// Always there until it is dropped.
    tokio: Option<tokio::runtime::Runtime>,
    handle: Handle,
}

impl Runtime {
    pub(super) fn start() -> Result<Arc<Self>, Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let tokio = Builder::new_multi_thread()
            .worker_threads(cores.min(THREADS_MAX))
            .thread_name("ottla")
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        Ok(Arc::new(Self {
            handle: tokio.handle().clone(),
            tokio: Some(tokio),
        }))
    }

    /// Makes tasks and timers start here, on the thread of the caller.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Whether a call may wait here.
    #[expect(clippy::unused_self, reason = "it is about to wait on it")]
    pub(super) fn check(&self, call: &'static str) -> Result<(), Error> {
        match Handle::try_current() {
            Ok(_) => Err(Error::InsideRuntime { call }),
            Err(_) => Ok(()),
        }
    }

    /// Waits for `future`. `call` names the caller in the error that says that waiting is not allowed here.
    pub(super) fn wait<F: Future>(
        &self,
        call: &'static str,
        future: F,
    ) -> Result<F::Output, Error> {
        self.check(call)?;
        let mut future = pin!(future);
        {
            // Most calls need not wait, and a look is cheaper than getting ready to.
            let _here = self.enter();
            let mut look = Context::from_waker(Waker::noop());
            if let Poll::Ready(output) = future.as_mut().poll(&mut look) {
                return Ok(output);
            }
        }
        Ok(self.handle.block_on(future))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(tokio) = self.tokio.take() {
            // Waiting for its threads would panic on a thread of another runtime.
            tokio.shutdown_background();
        }
    }
}

/// Something of the async client, with the runtime it needs also while it is dropped.
pub(super) struct Held<T> {
    /// Always there until it is dropped, or taken apart.
    inner: Option<T>,
    pub(super) runtime: Arc<Runtime>,
}

impl<T> Held<T> {
    pub(super) fn new(inner: T, runtime: Arc<Runtime>) -> Self {
        Self {
            inner: Some(inner),
            runtime,
        }
    }

    pub(super) fn get(&self) -> &T {
        match &self.inner {
            Some(inner) => inner,
            None => unreachable!("taken by whoever owns this alone"),
        }
    }

    /// Waits for `future`, `timeout` at most; `None` if that was not enough. `call` as in [`Runtime::wait`].
    pub(super) fn wait_for<O, E>(
        &self,
        call: &'static str,
        timeout: Duration,
        future: impl Future<Output = Result<O, E>>,
    ) -> Result<Option<O>, Error>
    where
        Error: From<E>,
    {
        // Within the runtime, for its timer.
        let timed = async { tokio::time::timeout(timeout, future).await };
        match self.runtime.wait(call, timed)? {
            Ok(output) => Ok(Some(output?)),
            Err(_) => Ok(None),
        }
    }

    /// To change it, with the runtime to wait on meanwhile.
    pub(super) fn parts(&mut self) -> (&mut T, &Runtime) {
        match &mut self.inner {
            Some(inner) => (inner, &self.runtime),
            None => unreachable!("taken by whoever owns this alone"),
        }
    }

    /// Takes it out, with its runtime.
    pub(super) fn into_parts(mut self) -> (T, Arc<Runtime>) {
        match self.inner.take() {
            Some(inner) => (inner, self.runtime.clone()),
            None => unreachable!("taken by whoever owns this alone"),
        }
    }
}

impl<T: Clone> Clone for Held<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            runtime: self.runtime.clone(),
        }
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let _here = self.runtime.enter();
        drop(self.inner.take());
    }
}

impl<T: fmt::Debug> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// Connections and batches of one client keep no more threads busy.
const THREADS_MAX: usize = 4;
