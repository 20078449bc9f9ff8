use std::rc::Rc;

use pitaya::prelude::*;

type Shared<T> = Rc<T>;
type Msg<T> = Json<T>;

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn join(&self, session: Session, Json(name): Msg<String>) -> Result<Msg<String>> {
        let name: Shared<String> = Rc::new(name);
        session.bind(name.as_str()).await?;
        Ok(Json(name.to_string()))
    }
}

fn main() {}
