use std::sync::Arc;

use pitaya::{FromRequest, extract::TakesNothing, prelude::*};

struct Title(String);

struct Hall {
    title: String,
}

impl FromRequest<Hall> for Title {
    type Takes = TakesNothing;

    async fn from_request(_request: &mut Request, hall: &Arc<Hall>) -> Result<Self> {
        Ok(Self(hall.title.clone()))
    }
}

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn title(&self, title: Title) -> Json<String> {
        Json(title.0)
    }
}

fn main() {}
