use pitaya::prelude::*;

/// Forgot the `Json` around it.
type Msg<T> = Vec<T>;

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn join(&self, session: Session, names: Msg<String>) {
        drop((session, names));
    }
}

fn main() {}
