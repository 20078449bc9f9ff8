//! Pipelines: flat lists, what they leave in the context, layers by route, stock layers, tower, rules of arguments.

mod extensions;
mod layers;
mod lists;
mod tower;
mod valid;

use std::sync::Arc;

use pitaya::{Bytes, Error, Json, Result, Server, ServerBuilder, Session, handlers};
use tokio::sync::Notify;

use crate::support::Events;

/// Handlers that write down that they were called.
struct Words {
    calls: Events,
    /// Lets one `linger` go on.
    go: Arc<Notify>,
}

#[handlers(name = "words")]
impl Words {
    #[request]
    async fn say(&self, Json(word): Json<String>) -> Json<String> {
        self.calls.add(format!("say {word}"));
        Json(format!("you said {word}"))
    }

    #[notify]
    async fn whisper(&self, Json(word): Json<String>) {
        self.calls.add(format!("whisper {word}"));
    }

    #[request]
    async fn fail(&self, _body: Bytes) -> Result<()> {
        self.calls.add("fail");
        Err(Error::new("WORD-1", "no words").with("left", 0))
    }

    #[request]
    async fn panic(&self, body: Bytes) {
        self.calls.add("panic");
        if &body[..] == b"later" {
            tokio::task::yield_now().await;
        }
        panic!("out of words");
    }

    #[request]
    async fn login(&self, session: Session) -> Result<()> {
        session.bind("ada").await
    }

    /// Ends when it is told to.
    #[request]
    async fn linger(&self) {
        self.calls.add("linger");
        let mut end = End { calls: &self.calls, whole: false };
        self.go.notified().await;
        end.whole = true;
    }
}

/// Writes down how a handler ended.
struct End<'a> {
    calls: &'a Events,
    whole: bool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.calls.add(if self.whole { "lingered" } else { "dropped" });
    }
}

fn words(calls: &Events) -> ServerBuilder {
    words_until(calls, &Arc::default())
}

fn words_until(calls: &Events, go: &Arc<Notify>) -> ServerBuilder {
    Server::frontend("game").handlers(Words { calls: calls.clone(), go: Arc::clone(go) })
}
