//! Records as a stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::{FusedStream, Stream};

use crate::{Consumer, Error, Record, listener::check_not_in_listener, waiting::Parked};

/// The records of a [`Consumer`], from [`Consumer::stream`].
///
/// Ends when the consumer is closed. Dropping it loses no record: the consumer, or another stream of it, goes
/// on where it was.
#[derive(Debug)]
pub struct RecordStream {
    consumer: Consumer,
    /// Set while the stream waits for records.
    parked: Option<Parked>,
    ended: bool,
}

impl RecordStream {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Self {
            consumer,
            parked: None,
            ended: false,
        }
    }

    fn stop_waiting(&mut self) {
        if let Some(parked) = self.parked.take() {
            parked.leave(self.consumer.shared());
        }
    }

    /// The next record, if there is one; else waits for news.
    fn take(&mut self) -> Result<Option<Record>, Error> {
        if let Some(record) = self.consumer.try_recv()? {
            return Ok(Some(record));
        }
        let shared = self.consumer.shared();
        let parked = Parked::listen(&shared.application);
        // What came in between would wake nobody.
        if let Some(record) = self.consumer.try_recv()? {
            return Ok(Some(record));
        }
        check_not_in_listener()?;
        parked.wait(shared);
        self.parked = Some(parked);
        Ok(None)
    }
}

impl Stream for RecordStream {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            if let Some(parked) = &mut self.parked {
                if parked.poll(cx).is_pending() {
                    // It may have begun to wait elsewhere.
                    return match check_not_in_listener() {
                        Ok(()) => Poll::Pending,
                        Err(error) => Poll::Ready(Some(Err(error))),
                    };
                }
                self.stop_waiting();
            }
            match self.take() {
                Ok(Some(record)) => return Poll::Ready(Some(Ok(record))),
                Ok(None) => {}
                Err(Error::Closed) => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

impl FusedStream for RecordStream {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Drop for RecordStream {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}
