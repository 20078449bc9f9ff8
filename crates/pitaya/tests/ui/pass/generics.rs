#![deny(warnings)]

use std::{fmt::Debug, marker::PhantomData, sync::Arc};

use pitaya::{Component, Handlers, prelude::*};
use serde::{Serialize, de::DeserializeOwned};

struct Arena<T, const SIZE: usize> {
    marker: PhantomData<fn() -> T>,
}

#[handlers(name = "arena", rename_all = "camelCase")]
impl<T: DeserializeOwned + Serialize + Send + Sync + 'static, const SIZE: usize> Arena<T, SIZE>
where
    T: Debug,
{
    #[request]
    async fn place_piece(&self, Json(piece): Json<T>) -> Result<Json<Vec<T>>> {
        Ok(Json(vec![piece]))
    }

    #[notify]
    async fn look(self: Arc<Self>, State(pieces): State<Vec<T>>) {
        assert!(pieces.len() < SIZE);
    }
}

fn component<T>(arena: Arena<T, 8>) -> Component
where
    T: DeserializeOwned + Serialize + Debug + Send + Sync + 'static,
{
    Arc::new(arena).into_component()
}

fn main() {
    let component = component(Arena::<String, 8> { marker: PhantomData });
    let methods: Vec<_> = component.handlers().iter().map(|handler| handler.method.as_str()).collect();
    assert_eq!((component.name(), methods), ("arena", vec!["placePiece", "look"]));
}
