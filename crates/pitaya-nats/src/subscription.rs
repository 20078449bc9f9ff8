//! A subscription that one task reads and another one ends.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use async_nats::{Message, Subscriber};
use futures_util::{Stream, StreamExt as _};

/// Who subscribed keeps this; it ends with it.
pub(crate) struct Handle(Shared);

/// Who reads has this. It yields nothing more after the end.
pub(crate) struct Reader(Shared);

type Shared = Arc<Mutex<Inner>>;

struct Inner {
    subscriber: Option<Subscriber>,
    /// Who waits for a message.
    reader: Option<Waker>,
}

/// Splits a subscription.
pub(crate) fn split(subscriber: Subscriber) -> (Handle, Reader) {
    let shared = Arc::new(Mutex::new(Inner { subscriber: Some(subscriber), reader: None }));
    (Handle(Arc::clone(&shared)), Reader(shared))
}

impl Handle {
    /// Ends the subscription: when it resolves, a new one to the same subject comes after the end of this one on the
    /// connection, so that no message comes by both.
    pub(crate) async fn end(self) {
        if let Some(mut subscriber) = self.take() {
            // It fails only if the connection has ended, and the subscription with it.
            drop(subscriber.unsubscribe().await);
        }
    }

    fn take(&self) -> Option<Subscriber> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
        inner.subscriber.take()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl Stream for Reader {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(subscriber) = &mut inner.subscriber else { return Poll::Ready(None) };
        let message = subscriber.poll_next_unpin(cx);
        if message.is_pending() && !inner.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            inner.reader = Some(cx.waker().clone());
        }
        message
    }
}
