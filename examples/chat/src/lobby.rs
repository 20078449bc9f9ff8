//! Who is where: the rooms are groups of the framework, this knows the names.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use pitaya::{App, Error, GroupError, Json, Result, ServerId, Session, Uid};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::{
    GATE,
    room::{Joined, Member, not_in_a_room},
};

/// Rooms that are always there.
const ROOMS: [&str; 3] = ["lobby", "games", "music"];

/// Rooms at most, so that nobody fills the memory with empty ones.
const MAX_ROOMS: usize = 100;

/// What somebody who joins can still read.
const HISTORY: usize = 50;

/// A player who reloads the page is back within this time, and nobody notices.
const RELOAD: Duration = Duration::from_secs(2);

/// The group of all players, who are told when the rooms change.
const EVERYBODY: &str = "everybody";

#[derive(Debug, Default)]
pub(crate) struct Lobby {
    /// Held while somebody comes or goes, so that all see this in the same order.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rooms: BTreeMap<String, VecDeque<Message>>,
    players: HashMap<Uid, Player>,
    /// Those whose close we are told of; the framework bounds how many can be.
    watched: HashSet<Uid>,
}

#[derive(Debug)]
struct Player {
    name: String,
    room: String,
    /// The server that the player is connected to.
    gate: ServerId,
    /// The connection has closed: somebody else, or the same player, can have the name.
    gone: bool,
}

/// What somebody said.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Message {
    name: String,
    room: String,
    text: String,
    /// Milliseconds since 1970.
    at: u64,
}

/// A room in the list of rooms.
#[derive(Debug, Serialize)]
pub(crate) struct RoomInfo {
    name: String,
    members: usize,
}

#[derive(Serialize)]
struct Someone<'a> {
    name: &'a str,
    room: &'a str,
    at: u64,
}

#[derive(Serialize)]
struct Typing<'a> {
    name: &'a str,
    room: &'a str,
}

#[derive(Serialize)]
struct Rooms {
    rooms: Vec<RoomInfo>,
}

impl Lobby {
    /// Makes the rooms that are always there.
    pub(crate) async fn open(&self, app: &App) -> Result<(), GroupError> {
        app.group(EVERYBODY).create().await?;
        let mut state = self.state.lock().await;
        for room in ROOMS {
            app.group(group(room)).create().await?;
            state.rooms.insert(room.to_owned(), VecDeque::new());
        }
        Ok(())
    }

    /// Sees to it that a player leaves when the connection closes. To be called before the session is bound: what closes
    /// after that is not missed.
    pub(crate) async fn watch(self: &Arc<Self>, app: &App, session: &Session, uid: &Uid) -> Result<()> {
        let mut state = self.state.lock().await;
        if !state.watched.contains(uid) {
            let (lobby, app, player) = (Arc::clone(self), app.clone(), uid.clone());
            session.on_close(|_| async move { lobby.gone(&app, player).await })?;
            state.watched.insert(uid.clone());
        }
        Ok(())
    }

    pub(crate) async fn join(&self, app: &App, session: &Session, name: &str, room: &str) -> Result<Joined> {
        let uid = &session.uid()?;
        let gate = session.frontend().unwrap_or(&app.server().id).clone();
        let mut state = self.state.lock().await;
        state.remove_lost(app).await?;
        let before = state.take_name(uid, name)?;
        if !state.rooms.contains_key(room) {
            if state.rooms.len() >= MAX_ROOMS {
                return Err(Error::new("CHAT-006", "there are too many rooms"));
            }
            app.group(group(room)).create().await?;
            state.rooms.insert(room.to_owned(), VecDeque::new());
        }
        // Under the same name in the same room, it is a reload: the others see nothing of it.
        let returned = before.as_ref().is_some_and(|(_, player)| player.name == name && player.room == room);
        if let Some((old_uid, old)) = before {
            state.remove(app, &old_uid, &old, !returned).await?;
        }
        if !returned {
            tell(app, room, "onJoin", &Someone { name, room, at: now() }).await?;
        }
        app.group(group(room)).add(uid).await?;
        app.group(EVERYBODY).add(uid).await?;
        let player = Player { name: name.to_owned(), room: room.to_owned(), gate, gone: false };
        state.players.insert(uid.clone(), player);
        let rooms = state.rooms(app).await?;
        if !returned {
            state.tell_rooms(app).await?;
        }
        Ok(Joined {
            name: name.to_owned(),
            room: room.to_owned(),
            members: state.members(app, room).await?,
            rooms,
            history: state.rooms.get(room).into_iter().flatten().cloned().collect(),
        })
    }

    pub(crate) async fn leave(&self, app: &App, uid: &Uid) -> Result<()> {
        let mut state = self.state.lock().await;
        let player = state.players.remove(uid).ok_or_else(not_in_a_room)?;
        state.remove(app, uid, &player, true).await?;
        state.tell_rooms(app).await
    }

    /// A player's connection has closed. If the player is not back soon, the others are told.
    async fn gone(self: Arc<Self>, app: &App, uid: Uid) {
        {
            let mut state = self.state.lock().await;
            state.watched.remove(&uid);
            if let Some(player) = state.players.get_mut(&uid) {
                player.gone = true;
            }
        }
        let app = app.clone();
        let tasks = app.tasks().clone();
        tasks.spawn("goodbye", async move {
            tokio::select! {
                () = tokio::time::sleep(RELOAD) => {}
                () = app.tasks().stopping().cancelled() => return,
            }
            // Somebody who came back, or left before the connection closed, is not here any more under this uid.
            drop(self.leave(&app, &uid).await);
        });
    }

    pub(crate) async fn say(&self, app: &App, uid: &Uid, text: &str) -> Result<u64> {
        let mut state = self.state.lock().await;
        let player = state.players.get(uid).ok_or_else(not_in_a_room)?;
        let message =
            Message { name: player.name.clone(), room: player.room.clone(), text: text.to_owned(), at: now() };
        tell(app, &message.room, "onMessage", &message).await?;
        let at = message.at;
        if let Some(history) = state.rooms.get_mut(&message.room) {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(message);
        }
        Ok(at)
    }

    pub(crate) async fn typing(&self, app: &App, uid: &Uid) -> Result<()> {
        let state = self.state.lock().await;
        let player = state.players.get(uid).ok_or_else(not_in_a_room)?;
        tell(app, &player.room, "onTyping", &Typing { name: &player.name, room: &player.room }).await
    }

    pub(crate) async fn rooms(&self, app: &App) -> Result<Vec<RoomInfo>> {
        self.state.lock().await.rooms(app).await
    }
}

impl State {
    /// Takes a name for a player, and returns whom the player was before: this connection in another room, or the
    /// connection of a page that is being reloaded.
    fn take_name(&mut self, uid: &Uid, name: &str) -> Result<Option<(Uid, Player)>> {
        let same_name = |player: &Player| player.name.to_lowercase() == name.to_lowercase();
        let holder = self.players.iter().find(|(holder, player)| *holder != uid && same_name(player));
        match holder.map(|(holder, player)| (holder.clone(), player.gone)) {
            Some((holder, true)) => Ok(self.players.remove_entry(&holder)),
            Some((_, false)) => Err(Error::new("CHAT-003", format!("{name} is here already"))),
            None => Ok(self.players.remove_entry(uid)),
        }
    }

    /// Takes out the players of gates that have crashed: these tell nobody that connections have closed.
    async fn remove_lost(&mut self, app: &App) -> Result<()> {
        let servers = app.servers();
        let lost: Vec<_> = self.players.extract_if(|_, player| servers.get(&player.gate).is_none()).collect();
        for (uid, player) in lost {
            self.watched.remove(&uid);
            self.remove(app, &uid, &player, true).await?;
        }
        Ok(())
    }

    /// Takes a player out of the groups, and the room away if it is empty now.
    async fn remove(&mut self, app: &App, uid: &Uid, player: &Player, tells: bool) -> Result<()> {
        app.group(EVERYBODY).remove(uid).await?;
        let room = app.group(group(&player.room));
        room.remove(uid).await?;
        if tells {
            tell(app, &player.room, "onLeave", &Someone { name: &player.name, room: &player.room, at: now() }).await?;
            if room.len().await? == 0 && !ROOMS.contains(&player.room.as_str()) {
                room.delete().await?;
                self.rooms.remove(&player.room);
            }
        }
        Ok(())
    }

    async fn members(&self, app: &App, room: &str) -> Result<Vec<Member>> {
        let uids = app.group(group(room)).members().await?;
        let names = uids.iter().filter_map(|uid| self.players.get(uid));
        let mut members: Vec<_> = names.map(|player| Member { name: player.name.clone() }).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    async fn rooms(&self, app: &App) -> Result<Vec<RoomInfo>> {
        let mut rooms = Vec::new();
        for name in self.rooms.keys() {
            rooms.push(RoomInfo { name: name.clone(), members: app.group(group(name)).len().await? });
        }
        Ok(rooms)
    }

    async fn tell_rooms(&self, app: &App) -> Result<()> {
        let rooms = Rooms { rooms: self.rooms(app).await? };
        // Who has just gone does not need to know.
        let _ = app.group(EVERYBODY).broadcast(GATE, "onRooms", Json(rooms)).await?;
        Ok(())
    }
}

/// Pushes to everybody in a room. A player whose page is being reloaded misses it.
async fn tell(app: &App, room: &str, route: &str, what: &(impl Serialize + Sync)) -> Result<()> {
    let _ = app.group(group(room)).broadcast(GATE, route, Json(what)).await?;
    Ok(())
}

fn group(room: &str) -> String {
    format!("room-{room}")
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
