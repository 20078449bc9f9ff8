use pitaya::prelude::*;

struct Room;

#[remotes(name = "room")]
impl Room {
    #[remote]
    async fn stats(&self, app: App, count: u32) -> Result<()> {
        drop((app, count));
        Ok(())
    }

    #[remote]
    async fn twice(&self, _first: Protobuf<()>, _second: Protobuf<()>) {}
}

fn main() {}
