use std::{rc::Rc, sync::Mutex};

use pitaya::prelude::*;

struct Room {
    members: Mutex<Vec<String>>,
}

#[handlers]
impl Room {
    #[request]
    async fn join(&self, session: Session, Json(name): Json<String>) -> Result<Json<usize>> {
        let mut members = self.members.lock().unwrap();
        members.push(name);
        session.bind("ada").await?;
        Ok(Json(members.len()))
    }

    #[notify]
    async fn leave(&self, session: Session) -> Result<()> {
        let reason = Rc::new("left");
        session.kick().await?;
        drop(reason);
        Ok(())
    }
}

fn main() {}
