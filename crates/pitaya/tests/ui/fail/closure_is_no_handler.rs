use std::sync::Arc;

use pitaya::{Component, prelude::*};

fn main() {
    let component = Component::builder("room", Arc::new(()))
        .request("count", async |count: u32| Json(count))
        .build();
    drop(component);
}
