//! Reads the calls of this server, until they are to come no more.

use std::{sync::Arc, time::Duration};

use async_nats::{Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{sync::oneshot, time::timeout};

use crate::{connection::Connection, intake::Intake};

/// How many calls may be on their way when the subscription ends.
const ON_THE_WAY: u16 = 1024;

/// How long they may take.
const DRAINING: Duration = Duration::from_secs(2);

/// The reply subject of messages that are no calls.
const FILLER: Subject = Subject::from_static("pitaya.filler");

/// Who subscribed keeps this; the subscription ends with it.
pub(crate) struct Calls(oneshot::Sender<oneshot::Sender<()>>);

impl Calls {
    /// Where the task that [`read`]s hears of the end.
    pub(crate) fn new() -> (Self, oneshot::Receiver<oneshot::Sender<()>>) {
        let (end, ended) = oneshot::channel();
        (Self(end), ended)
    }

    /// Ends the subscription, and waits until what was on its way has been handed over.
    pub(crate) async fn drain(self) {
        let (done, drained) = oneshot::channel();
        if self.0.send(done).is_ok() {
            // The task may have ended with its connection.
            drop(timeout(DRAINING * 2, drained).await);
        }
    }
}

/// Hands over calls as they arrive.
pub(crate) async fn read(
    mut calls: Subscriber,
    subject: Subject,
    connection: Arc<Connection>,
    intake: Arc<Intake>,
    mut ended: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let mut count = 0;
    let done = loop {
        tokio::select! {
            call = calls.next() => match call {
                Some(call) => {
                    count += 1;
                    intake.request(call);
                }
                None => return,
            },
            end = &mut ended => match end {
                Ok(done) => break done,
                Err(_) => return,
            },
        }
    };
    if timeout(DRAINING, drain(&mut calls, count, subject, &connection, &intake)).await.is_err() {
        tracing::warn!("calls may have been lost at the end of their subscription");
    }
    drop(calls);
    // Whoever waits may have given up.
    let _ = done.send(());
}

/// The library forgets a subscription when it ends it, and loses what is on its way; but not if it is told to end it after a
/// number of messages, as NATS is told, too. So we name a number that is not reached yet, and reach it with messages of our
/// own.
async fn drain(calls: &mut Subscriber, count: u64, subject: Subject, connection: &Connection, intake: &Intake) {
    if calls.unsubscribe_after(count + u64::from(ON_THE_WAY)).await.is_err() {
        return;
    }
    for _ in 0..ON_THE_WAY {
        if connection.publish(subject.clone(), Some(FILLER), None, Bytes::new()).await.is_err() {
            return;
        }
    }
    while let Some(call) = calls.next().await {
        if call.reply.as_ref() != Some(&FILLER) {
            intake.request(call);
        }
    }
}
