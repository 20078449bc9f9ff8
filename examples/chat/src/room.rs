//! The handlers: what a player can do.

use std::sync::Arc;

use pitaya::prelude::*;
use serde::{Deserialize, Serialize};

use crate::lobby::{Lobby, Message, RoomInfo};

/// The handlers of `room.room.*`.
pub(crate) struct Room {
    lobby: Arc<Lobby>,
}

#[derive(Deserialize)]
struct Join {
    name: String,
    room: String,
}

#[derive(Serialize)]
pub(crate) struct Joined {
    pub(crate) name: String,
    pub(crate) room: String,
    pub(crate) members: Vec<Member>,
    pub(crate) rooms: Vec<RoomInfo>,
    pub(crate) history: Vec<Message>,
}

#[derive(Serialize)]
pub(crate) struct Member {
    pub(crate) name: String,
}

#[derive(Deserialize)]
struct Say {
    text: String,
}

#[derive(Serialize)]
struct Said {
    at: u64,
}

#[derive(Serialize)]
struct Rooms {
    rooms: Vec<RoomInfo>,
}

#[derive(Serialize)]
struct Nothing {}

impl Room {
    pub(crate) fn new(lobby: Arc<Lobby>) -> Self {
        Self { lobby }
    }
}

#[handlers(name = "room")]
impl Room {
    /// Joins a room under a name, or moves to another room.
    #[request]
    async fn join(&self, app: App, session: Session, Json(join): Json<Join>) -> Result<Json<Joined>> {
        let name = checked_name(&join.name)?;
        let room = checked_room(&join.room)?;
        // The number of a session is its gate's, and there may be several gates.
        let gate = session.frontend().unwrap_or(&app.server().id);
        let uid = Uid::try_from(format!("player-{gate}-{}", session.id()))?;
        self.lobby.watch(&app, &session, &uid).await?;
        if session.uid().is_err() {
            session.bind(uid).await?;
        }
        self.lobby.join(&app, &session, name, room).await.map(Json)
    }

    /// Leaves the room.
    #[request]
    async fn leave(&self, app: App, session: Session) -> Result<Json<Nothing>> {
        self.lobby.leave(&app, &session.uid().map_err(|_| not_in_a_room())?).await?;
        Ok(Json(Nothing {}))
    }

    /// Says something to everybody in the room, oneself included.
    #[request]
    async fn say(&self, app: App, session: Session, Json(say): Json<Say>) -> Result<Json<Said>> {
        let text = say.text.trim();
        if text.is_empty() || text.chars().count() > 500 {
            return Err(Error::new("CHAT-004", "a message has 1 to 500 characters"));
        }
        let uid = session.uid().map_err(|_| not_in_a_room())?;
        let at = self.lobby.say(&app, &uid, text).await?;
        Ok(Json(Said { at }))
    }

    /// Tells the others that one is writing.
    #[notify]
    async fn typing(&self, app: App, session: Session) -> Result<()> {
        self.lobby.typing(&app, &session.uid()?).await
    }

    /// The rooms and how many are in each.
    #[request]
    async fn rooms(&self, app: App) -> Result<Json<Rooms>> {
        Ok(Json(Rooms { rooms: self.lobby.rooms(&app).await? }))
    }
}

pub(crate) fn not_in_a_room() -> Error {
    Error::new("CHAT-005", "join a room first")
}

fn checked_name(name: &str) -> Result<&str> {
    let name = name.trim();
    let fits = (1..=24).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    fits.then_some(name).ok_or_else(|| Error::new("CHAT-001", "a name has 1 to 24 characters"))
}

fn checked_room(room: &str) -> Result<&str> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let fits = (1..=24).contains(&room.chars().count()) && room.chars().all(allowed);
    fits.then_some(room).ok_or_else(|| Error::new("CHAT-002", "a room has 1 to 24 letters, digits, - or _"))
}
