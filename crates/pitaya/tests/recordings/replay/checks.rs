//! What is looked at after each step, and at the end.

use crate::{
    compare,
    recording::{Event, server_of_subject},
    tap::Seen,
};

use super::Replay;

impl Replay<'_> {
    /// Go says several times that a subscription ends; in no step of a recording more than one of a user does.
    pub(super) fn note_subscription(&mut self, server: &str, subject: &str, begins: bool) {
        let Some(subjects) = self.subscriptions.get_mut(server) else { return };
        if begins {
            *subjects.entry(subject.to_owned()).or_default() += 1;
        } else if self.ended_in_step.insert((server.to_owned(), subject.to_owned())) {
            let count = subjects.entry(subject.to_owned()).or_default();
            *count = count.saturating_sub(1);
        }
    }

    /// After each step our servers are subscribed to what the recorded ones are.
    pub(super) async fn check_subscriptions(&mut self, event: &Event) {
        self.ended_in_step.clear();
        let expected: Vec<(String, Vec<String>)> = self
            .subscriptions
            .iter()
            .map(|(id, subjects)| {
                let active = subjects.iter().filter(|(_, count)| **count > 0);
                (id.clone(), active.map(|(subject, _)| subject.clone()).collect())
            })
            .collect();
        for (id, subjects) in expected {
            if !self.log.wait_for(self.test.patience, |log| log.subscriptions(&id) == subjects).await {
                let text = format!(
                    "before it, {id}: Go is subscribed to {subjects:?}, ours to {:?}",
                    self.log.subscriptions(&id)
                );
                self.differ(event, "subscriptions", &text);
            }
        }
    }

    /// Stops all servers: what they have to say until then is said, and nothing of it may be left over.
    pub(super) async fn end(&mut self) {
        let last = self.recording.events.last().unwrap();
        self.check_subscriptions(last).await;
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.stop().await;
        }
        let rest = self.log.rest();
        for seen in &rest {
            let text = match seen {
                Seen::Published { from, subject, payload, .. } => {
                    let own_inbox = |seen: &Seen| matches!(seen, Seen::Subscribed { from: other, subject: inbox, .. } if other == from && inbox == subject);
                    let drains = server_of_subject(subject) == Some(from);
                    if rest.iter().any(own_inbox) && !subject.ends_with("/bindings") || drains {
                        continue;
                    }
                    format!("{from} publishes on {subject}: {payload:?}")
                }
                Seen::Packet { conn, packet } if packet.kind != pitaya::PacketKind::Heartbeat => {
                    format!("{conn} gets {}", compare::packet_name(packet))
                }
                _ => continue,
            };
            self.differ(last, &format!("extra {text}"), &format!("more than Go: {text}"));
        }
    }
}
