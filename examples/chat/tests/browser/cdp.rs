//! The DevTools protocol: calls as JSON over one WebSocket, answered in any order.

use std::{collections::HashMap, sync::Arc};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::{BrowserError, PATIENCE};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Answer = Result<Value, BrowserError>;

/// A handle to the browser. Clones share the connection, and calls do not wait for each other.
#[derive(Clone, Debug)]
pub(crate) struct Cdp {
    calls: mpsc::Sender<Call>,
    /// The task that owns the socket; it ends with the last handle.
    _owner: Arc<JoinSet<()>>,
}

#[derive(Debug)]
struct Call {
    /// The tab, or the browser itself.
    session: Option<String>,
    method: &'static str,
    params: Value,
    answer: oneshot::Sender<Answer>,
}

impl Cdp {
    /// Connects to the address that the browser has told.
    pub(crate) async fn connect(address: &str) -> Result<Self, BrowserError> {
        let (socket, _) = connect_async(address).await.map_err(|error| BrowserError::Protocol(error.to_string()))?;
        // Callers wait for their answers, so more than a few calls never queue up; when full, they wait.
        let (calls, queue) = mpsc::channel(16);
        let mut owner = JoinSet::new();
        owner.spawn(run(socket, queue));
        Ok(Self { calls, _owner: Arc::new(owner) })
    }

    /// Calls a method and waits for its answer.
    pub(crate) async fn call(&self, session: Option<&str>, method: &'static str, params: Value) -> Answer {
        let (answer, answered) = oneshot::channel();
        let call = Call { session: session.map(str::to_owned), method, params, answer };
        let gone = || BrowserError::Protocol(format!("gone before it answered {method}"));
        self.calls.send(call).await.map_err(|_| gone())?;
        timeout(PATIENCE, answered)
            .await
            .map_err(|_| BrowserError::TimedOut(format!("the answer to {method}")))?
            .map_err(|_| gone())?
    }
}

/// Owns the socket until it breaks or nobody can call any more. What is unanswered then is answered by its absence.
async fn run(mut socket: Socket, mut queue: mpsc::Receiver<Call>) {
    let mut pending = HashMap::new();
    let mut last_id = 0_u64;
    loop {
        // Both branches are cancel-safe: a message is either taken whole or still there.
        tokio::select! {
            call = queue.recv() => {
                let Some(call) = call else { return };
                last_id += 1;
                let mut message = json!({ "id": last_id, "method": call.method, "params": call.params });
                if let Some(session) = call.session {
                    message["sessionId"] = session.into();
                }
                pending.insert(last_id, call.answer);
                if socket.send(Message::text(message.to_string())).await.is_err() {
                    return;
                }
            }
            message = socket.next() => {
                let Some(Ok(message)) = message else { return };
                let Message::Text(text) = message else { continue };
                // Messages without an id are events. We wait on what a page shows, not on events.
                if let Ok(message) = serde_json::from_str::<Value>(&text)
                    && let Some(answer) = message["id"].as_u64().and_then(|id| pending.remove(&id))
                {
                    let _ = answer.send(result(message));
                }
            }
        }
    }
}

fn result(mut message: Value) -> Answer {
    if message["error"].is_null() {
        Ok(message["result"].take())
    } else {
        Err(BrowserError::Protocol(message["error"].to_string()))
    }
}
