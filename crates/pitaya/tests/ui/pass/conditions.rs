//! A method that is left out is not registered.

use pitaya::{Handlers as _, Json, handlers};

struct Room;

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn count(&self) -> Json<u32> {
        Json(1)
    }

    #[cfg(any())]
    #[request]
    async fn never(&self, nothing: DoesNotExist) -> Json<u32> {
        Json(2)
    }

    /// The condition may stand behind the mark.
    #[request]
    #[cfg(all())]
    async fn always(&self) -> Json<u32> {
        Json(3)
    }
}

fn main() {
    let component = std::sync::Arc::new(Room).into_component();
    let methods: Vec<_> = component.handlers().iter().map(|handler| handler.method.as_str()).collect();
    assert_eq!(methods, ["count", "always"]);
}
