//! What has found no room in the queue of a connection, in its order.
//!
//! Whoever waits for room in the library's queue gets it in turn, but takes it only when its future is polled again. Until then
//! somebody who comes later may be faster, and two calls of one session would change places. So what finds no room waits here,
//! and a task puts it into the queue; whoever comes while something waits goes behind it. Nobody can keep the others waiting by
//! not polling its future.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use pitaya_core::Tasks;
use tokio::{
    sync::{mpsc, oneshot},
    task::unconstrained,
};

/// A queue with a bound.
pub(crate) trait Queue: Clone + Send + Sync + 'static {
    type Message: Clone + Send + 'static;
    type Error: Send + 'static;

    /// Puts a message into the queue when there is room. A future that is dropped before has done nothing.
    fn put(&self, message: Self::Message) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// The way into a queue.
pub(crate) struct Overflow<Q: Queue> {
    queue: Q,
    waiting: mpsc::Sender<Waiting<Q>>,
    /// How many wait, those included who have given up.
    count: Arc<AtomicUsize>,
}

/// A message that waits for room.
struct Waiting<Q: Queue> {
    /// None when nobody wants it to be sent any more.
    message: Slot<Q::Message>,
    done: oneshot::Sender<Result<(), Q::Error>>,
}

struct Slot<M>(Arc<Mutex<Option<M>>>);

/// Why a message is not in the queue.
#[derive(Debug)]
pub(crate) enum NotSent<E> {
    /// The queue does not take it.
    Refused(E),
    /// Too many wait.
    Full,
    /// Nothing is sent any more.
    Ended,
}

impl<Q: Queue> Overflow<Q> {
    /// A way into this queue, for whose room so many may wait.
    pub(crate) fn new(queue: Q, limit: usize, tasks: &Tasks) -> Self {
        let (waiting, come) = mpsc::channel(limit);
        let count = Arc::<AtomicUsize>::default();
        // It ends with the last who may send: what others wait for ends with them.
        tasks.spawn("messages for a full connection to NATS", empty(queue.clone(), come, Arc::clone(&count)));
        Self { queue, waiting, count }
    }

    /// Puts a message into the queue, behind all for which this has been polled before. The first poll does, unless the queue
    /// is full.
    pub(crate) async fn put(&self, message: Q::Message) -> Result<(), NotSent<Q::Error>> {
        if self.count.load(Ordering::Acquire) == 0 {
            // A task that has done much already must not lose its place in the queue.
            let mut putting = pin!(unconstrained(self.queue.put(message.clone())));
            if let Poll::Ready(put) = poll_fn(|cx| Poll::Ready(putting.as_mut().poll(cx))).await {
                return put.map_err(NotSent::Refused);
            }
        }
        self.wait(message).await
    }

    /// Waits until everything that is waiting now is in the queue, or has given up.
    pub(crate) async fn emptied(&self) {
        // The task does not end before this.
        let Ok(place) = self.waiting.reserve().await else { return };
        let (done, reached) = oneshot::channel();
        self.count.fetch_add(1, Ordering::AcqRel);
        place.send(Waiting { message: Slot(Arc::default()), done });
        drop(reached.await);
    }

    async fn wait(&self, message: Q::Message) -> Result<(), NotSent<Q::Error>> {
        let (done, put) = oneshot::channel();
        let message = Slot(Arc::new(Mutex::new(Some(message))));
        // What is not sent is forgotten at once, wherever it stands.
        let _forget = Forget(Slot(Arc::clone(&message.0)));
        // Before it can be seen, so that it is never less than there are.
        self.count.fetch_add(1, Ordering::AcqRel);
        if let Err(error) = self.waiting.try_send(Waiting { message, done }) {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => NotSent::Full,
                mpsc::error::TrySendError::Closed(_) => NotSent::Ended,
            });
        }
        match put.await {
            Ok(put) => put.map_err(NotSent::Refused),
            Err(_) => Err(NotSent::Ended),
        }
    }
}

async fn empty<Q: Queue>(queue: Q, mut come: mpsc::Receiver<Waiting<Q>>, count: Arc<AtomicUsize>) {
    while let Some(Waiting { message, mut done }) = come.recv().await {
        let put = match message.take() {
            Some(message) => tokio::select! {
                biased;
                put = queue.put(message) => Some(put),
                () = done.closed() => None,
            },
            None => Some(Ok(())),
        };
        // Whoever sees this may put the next message into the queue.
        count.fetch_sub(1, Ordering::AcqRel);
        if let Some(put) = put {
            // It may have been given up in this moment.
            drop(done.send(put));
        }
    }
}

impl<M> Slot<M> {
    fn take(&self) -> Option<M> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Forget<M>(Slot<M>);

impl<M> Drop for Forget<M> {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::Pin};

    use futures_util::FutureExt as _;

    use super::*;

    impl Queue for mpsc::Sender<u32> {
        type Message = u32;
        type Error = ();

        async fn put(&self, message: u32) -> Result<(), ()> {
            self.send(message).await.map_err(drop)
        }
    }

    type Putting<'a> = Pin<Box<dyn Future<Output = Result<(), NotSent<()>>> + 'a>>;

    /// Polls once.
    fn put(overflow: &Overflow<mpsc::Sender<u32>>, message: u32) -> (Putting<'_>, Option<Result<(), NotSent<()>>>) {
        let mut putting: Putting<'_> = Box::pin(overflow.put(message));
        let now = (&mut putting).now_or_never();
        (putting, now)
    }

    #[tokio::test]
    async fn the_order_is_that_of_the_first_polls_and_what_is_given_up_is_not_sent() {
        let (tasks, (sender, mut receiver)) = (Tasks::new(), mpsc::channel(2));
        let overflow = Overflow::new(sender, 4, &tasks);
        for message in [1, 2] {
            assert!(matches!(put(&overflow, message).1, Some(Ok(()))));
        }
        let kept: Vec<_> = [3, 4, 5].map(|message| put(&overflow, message)).into();
        assert!(kept.iter().all(|(_, now)| now.is_none()));
        drop(put(&overflow, 6));
        assert!(matches!(put(&overflow, 7).1, Some(Err(NotSent::Full))));
        // The first of those that wait is in the hands of the task, and gives its place free.
        tokio::task::yield_now().await;
        assert_eq!([receiver.recv().await, receiver.recv().await], [Some(1), Some(2)]);
        // There is room now, and nobody polls those who wait for it.
        let (last, now) = put(&overflow, 8);
        assert!(now.is_none());
        let mut got = Vec::new();
        for _ in 0..4 {
            got.push(receiver.recv().await.unwrap());
        }
        assert_eq!(got, [3, 4, 5, 8]);
        last.await.unwrap();
        for (putting, _) in kept {
            putting.await.unwrap();
        }
        overflow.emptied().await;
        assert!(matches!(put(&overflow, 9).1, Some(Ok(()))));
        drop(overflow);
        while !tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_waits_when_the_queue_ends_is_told_so() {
        let (tasks, (sender, receiver)) = (Tasks::new(), mpsc::channel(1));
        let overflow = Overflow::new(sender, 4, &tasks);
        assert!(put(&overflow, 1).1.is_some());
        let (waiting, now) = put(&overflow, 2);
        assert!(now.is_none());
        drop(receiver);
        assert!(matches!(waiting.await, Err(NotSent::Refused(()))));
    }
}
