//! Who gets which push.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::queue::{Queue, QueueLimits};
use super::{Push, Pushes};

/// All subscriptions of a client.
///
/// Written by the task of the connection (pushes, the end) and by the handles (new subscriptions).
#[derive(Debug)]
pub(crate) struct Hub {
    limits: QueueLimits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    subscribers: Vec<Subscriber>,
    /// Pushes that no subscription wanted. They wait for one that does: a server may push right behind the handshake,
    /// before the program has had a chance to subscribe.
    unclaimed: Queue,
    closed: bool,
}

#[derive(Debug)]
struct Subscriber {
    /// `None` wants all.
    route: Option<String>,
    /// Gone when the subscription was dropped.
    queue: Weak<Queue>,
}

impl Subscriber {
    fn wants(&self, push: &Push) -> bool {
        wants(self.route.as_deref(), push)
    }
}

fn wants(route: Option<&str>, push: &Push) -> bool {
    route.is_none_or(|route| route == push.route)
}

impl Hub {
    pub(crate) fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            state: Mutex::new(State { subscribers: Vec::new(), unclaimed: Queue::new(limits), closed: false }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way, so a poisoned state is a valid one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a subscription to one route or to all; unclaimed pushes that it wants come first.
    pub(crate) fn subscribe(&self, route: Option<String>) -> Pushes {
        let queue = Arc::new(Queue::new(self.limits));
        let mut state = self.lock();
        for push in state.unclaimed.extract(|push| wants(route.as_deref(), push)) {
            queue.push(push);
        }
        if route.is_none() {
            queue.lost(state.unclaimed.take_lagged());
        }
        state.subscribers.retain(|subscriber| subscriber.queue.strong_count() > 0);
        if state.closed {
            queue.close();
        } else {
            state.subscribers.push(Subscriber { route, queue: Arc::downgrade(&queue) });
        }
        Pushes { queue }
    }

    /// Hands a push to all who want it.
    pub(crate) fn publish(&self, push: Push) {
        let mut state = self.lock();
        let mut claimed = false;
        state.subscribers.retain(|subscriber| {
            let Some(queue) = subscriber.queue.upgrade() else {
                return false;
            };
            if subscriber.wants(&push) {
                claimed = true;
                queue.push(push.clone());
            }
            true
        });
        if !claimed {
            state.unclaimed.push(push);
        }
    }

    /// Ends all subscriptions, those to come as well.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for subscriber in state.subscribers.drain(..) {
            if let Some(queue) = subscriber.queue.upgrade() {
                queue.close();
            }
        }
    }
}
