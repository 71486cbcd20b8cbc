//! Records as a stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::{FusedStream, Stream};
use tokio::sync::futures::OwnedNotified;

use crate::{Consumer, Error, Record, reader::begin_waiting, reader::end_waiting};

/// The records of a [`Consumer`], from [`Consumer::stream`].
///
/// Ends when the consumer is closed. Dropping it loses no record: the consumer, or another stream of it, goes
/// on where it was.
#[derive(Debug)]
pub struct RecordStream {
    consumer: Consumer,
    /// Set while the stream waits for records.
    news: Option<Pin<Box<OwnedNotified>>>,
    ended: bool,
}

impl RecordStream {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Self {
            consumer,
            news: None,
            ended: false,
        }
    }

    fn stop_waiting(&mut self) {
        if self.news.take().is_some() {
            end_waiting(self.consumer.shared());
        }
    }
}

impl Stream for RecordStream {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            if let Some(news) = &mut self.news {
                ready!(news.as_mut().poll(cx));
                self.stop_waiting();
            }
            let mut next = self.consumer.try_recv();
            if matches!(next, Ok(None)) {
                let mut news =
                    Box::pin(self.consumer.shared().application.clone().notified_owned());
                news.as_mut().enable();
                // What came in between would wake nobody.
                next = self.consumer.try_recv();
                if matches!(next, Ok(None)) {
                    begin_waiting(self.consumer.shared());
                    self.news = Some(news);
                    continue;
                }
            }
            return match next {
                Ok(Some(record)) => Poll::Ready(Some(Ok(record))),
                Ok(None) => continue,
                Err(Error::Closed) => {
                    self.ended = true;
                    Poll::Ready(None)
                }
                Err(error) => Poll::Ready(Some(Err(error))),
            };
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
