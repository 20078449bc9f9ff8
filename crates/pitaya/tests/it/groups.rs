//! Groups of users, and what is pushed to them.

mod joining;
mod many;
mod pushes;
mod store;
mod ttl;

use pitaya::{App, Group, Json, Server, Session, Uid};
use pitaya_client::{Client, Pushes};
use serde_json::Value;

use crate::support::{Running, serve, soon};

fn uid(name: &str) -> Uid {
    Uid::try_from(name).unwrap()
}

async fn bare() -> Running {
    serve(Server::frontend("game")).await
}

async fn sorted(group: &Group) -> Vec<String> {
    let mut members: Vec<_> = group.members().await.unwrap().iter().map(Uid::to_string).collect();
    members.sort();
    members
}

/// A client with a session that is bound.
struct Player {
    client: Client,
    session: Session,
    pushes: Pushes,
}

impl Player {
    async fn join(server: &Running, client: Client, name: &str) -> Self {
        // The newest is the one of this client.
        let session = server.app.sessions().into_iter().max_by_key(Session::id).unwrap();
        session.bind(name).await.unwrap();
        Self { pushes: client.pushes(), client, session }
    }

    /// Everything that was pushed up to now: a last push, behind all others, marks the end.
    async fn received(&mut self) -> Vec<(String, Value)> {
        self.session.push("end", Json(())).await.unwrap();
        let mut received = Vec::new();
        loop {
            let push = soon("the next push", self.pushes.next()).await.unwrap();
            if push.route == "end" {
                return received;
            }
            received.push((push.route.clone(), push.json().unwrap()));
        }
    }
}

/// The groups that a user is in, sorted.
async fn groups_of(app: &App, name: &str) -> Vec<String> {
    let mut groups: Vec<_> = app.groups_of(&uid(name)).await.unwrap().iter().map(ToString::to_string).collect();
    groups.sort();
    groups
}

/// Makes groups, and returns their handles.
async fn made<const N: usize>(app: &App, names: [&str; N]) -> [Group; N] {
    let groups = names.map(|name| app.group(name));
    for group in &groups {
        group.create().await.unwrap();
    }
    groups
}
