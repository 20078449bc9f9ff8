use std::sync::Arc;

use pitaya::{FromRequest, extract::TakesPayload, prelude::*};

struct Checked(String);

impl<C: Send + Sync> FromRequest<C> for Checked {
    type Takes = TakesPayload;

    async fn from_request(request: &mut Request, component: &Arc<C>) -> Result<Self> {
        Json::from_request(request, component).await.map(|Json(text)| Self(text))
    }
}

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn join(&self, checked: Checked, session: Session) {
        drop((session, checked.0));
    }
}

fn main() {}
