//! What tests do to an etcd from the side: through its JSON API, which has nothing to do with the client under test.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::Etcd;
use crate::PATIENCE;

impl Etcd {
    /// Writes a key.
    pub async fn put(&self, key: &str, value: &str) {
        self.post("kv/put", json!({"key": encoded(key), "value": encoded(value)})).await;
    }

    /// Deletes a key.
    pub async fn delete(&self, key: &str) {
        self.post("kv/deleterange", json!({"key": encoded(key)})).await;
    }

    /// Reads a key.
    pub async fn get(&self, key: &str) -> Option<String> {
        let answer = self.post("kv/range", json!({"key": encoded(key)})).await;
        Some(decoded(&answer["kvs"][0]["value"])).filter(|_| !answer["kvs"].is_null())
    }

    /// All keys that begin with a prefix.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let mut end = prefix.to_owned().into_bytes();
        *end.last_mut().unwrap() += 1;
        let range = json!({"key": encoded(prefix), "range_end": BASE64_STANDARD.encode(end), "keys_only": true});
        let answer = self.post("kv/range", range).await;
        answer["kvs"].as_array().into_iter().flatten().map(|kv| decoded(&kv["key"])).collect()
    }

    /// The lease of a key, as etcd names it.
    pub async fn lease(&self, key: &str) -> Option<String> {
        let answer = self.post("kv/range", json!({"key": encoded(key)})).await;
        answer["kvs"][0]["lease"].as_str().map(str::to_owned)
    }

    /// The time for which a lease was granted, in seconds.
    pub async fn granted_ttl(&self, lease: &str) -> u64 {
        let answer = self.post("kv/lease/timetolive", json!({"ID": lease})).await;
        answer["grantedTTL"].as_str().map_or(0, |ttl| ttl.parse().unwrap())
    }

    /// Ends a lease, and its keys with it.
    pub async fn revoke(&self, lease: &str) {
        self.post("kv/lease/revoke", json!({"ID": lease})).await;
    }

    /// Forgets all changes up to now.
    pub async fn compact(&self) {
        let now = self.post("kv/range", json!({"key": encoded("x")})).await;
        self.post("kv/compaction", json!({"revision": now["header"]["revision"], "physical": true})).await;
    }

    /// From now on there are users: this one, who may do everything with keys that begin with a prefix, and root.
    pub async fn enable_users(&mut self, user: &str, password: &str, prefix: &str) {
        let mut end = prefix.to_owned().into_bytes();
        *end.last_mut().unwrap() += 1;
        let may = json!({"permType": "READWRITE", "key": encoded(prefix), "range_end": BASE64_STANDARD.encode(end)});
        self.post("auth/role/add", json!({"name": "game"})).await;
        self.post("auth/role/grant", json!({"name": "game", "perm": may})).await;
        self.post("auth/user/add", json!({"name": user, "password": password})).await;
        self.post("auth/user/grant", json!({"user": user, "role": "game"})).await;
        self.post("auth/user/add", json!({"name": "root", "password": password})).await;
        self.post("auth/user/grant", json!({"user": "root", "role": "root"})).await;
        self.post("auth/enable", json!({})).await;
        self.root = Some(password.to_owned());
    }

    async fn post(&self, what: &str, body: Value) -> Value {
        let token = match &self.root {
            Some(password) => {
                let login = json!({"name": "root", "password": password});
                let answer = self.answer("auth/authenticate", &login, "").await;
                answer["token"].as_str().unwrap().to_owned()
            }
            None => String::new(),
        };
        self.answer(what, &body, &token).await
    }

    /// Asks again until the server is ready.
    async fn answer(&self, what: &str, body: &Value, token: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = timeout(Duration::from_secs(10), exchange(&self.address(), what, body, token)).await;
            if let Ok(Ok((200, answer))) = &answer {
                return answer.clone();
            }
            assert!(Instant::now() < deadline, "{what}: {answer:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One request of HTTP/1.0, so that the answer ends with the connection.
async fn exchange(address: &str, what: &str, body: &Value, token: &str) -> std::io::Result<(u16, Value)> {
    let mut connection = TcpStream::connect(address).await?;
    let (body, auth) = (body.to_string(), if token.is_empty() { "" } else { "Authorization: " });
    let end = if token.is_empty() { "" } else { "\r\n" };
    let head = format!("POST /v3/{what} HTTP/1.0\r\n{auth}{token}{end}Content-Length: {}\r\n\r\n", body.len());
    connection.write_all((head + &body).as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, serde_json::from_str(body).unwrap_or_default()))
}

fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn decoded(value: &Value) -> String {
    let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
