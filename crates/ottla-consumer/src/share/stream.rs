//! Records of a share group as a stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::{FusedStream, Stream};

use super::{consumer::ShareConsumer, record::ShareRecord};
use crate::Error;

/// The records of a [`ShareConsumer`], from [`ShareConsumer::stream`].
///
/// Ends when the consumer is closed; errors do not end it. Dropping it loses no record.
pub struct ShareRecordStream {
    consumer: ShareConsumer,
    /// Set while the stream waits.
    next: Option<Next>,
    ended: bool,
}

type Next = Pin<Box<dyn Future<Output = Result<ShareRecord, Error>> + Send>>;

impl ShareRecordStream {
    pub(super) fn new(consumer: ShareConsumer) -> Self {
        Self {
            consumer,
            next: None,
            ended: false,
        }
    }
}

impl Stream for ShareRecordStream {
    type Item = Result<ShareRecord, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let here = match self.next {
            Some(_) => None,
            None => self.consumer.try_recv().transpose(),
        };
        let item = match here {
            Some(item) => item,
            None => {
                // Only for a record that has to be waited for.
                let consumer = self.consumer.clone();
                let next = self
                    .next
                    .get_or_insert_with(|| Box::pin(async move { consumer.recv().await }));
                let item = ready!(next.as_mut().poll(cx));
                self.next = None;
                item
            }
        };
        self.ended = matches!(item, Err(Error::Closed));
        Poll::Ready(Some(item).filter(|_| !self.ended))
    }
}

impl FusedStream for ShareRecordStream {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl std::fmt::Debug for ShareRecordStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShareRecordStream")
            .field("consumer", &self.consumer)
            .field("waits", &self.next.is_some())
            .finish_non_exhaustive()
    }
}
