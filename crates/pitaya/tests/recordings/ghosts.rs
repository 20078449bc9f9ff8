//! The Go servers of a recording, as far as NATS is concerned: they publish what was recorded, and listen without a word.

use std::sync::Arc;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, tcp},
    sync::{Mutex, watch},
    task::JoinHandle,
};

use crate::replay::PATIENCE;

/// A plain connection to a NATS server.
pub(crate) struct Ghosts {
    writer: Arc<Mutex<tcp::OwnedWriteHalf>>,
    pongs: watch::Receiver<usize>,
    reading: JoinHandle<()>,
}

impl Ghosts {
    pub(crate) async fn connect(nats: &str) -> Self {
        let stream = TcpStream::connect(nats).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        let writer = Arc::new(Mutex::new(writer));
        let (count, pongs) = watch::channel(0);
        let reading = tokio::spawn(read(BufReader::new(reader), Arc::clone(&writer), count));
        let ghosts = Self { writer, pongs, reading };
        ghosts.say("CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n".into()).await;
        ghosts
    }

    /// Listens, so that calls of this server find somebody. Named by a number.
    pub(crate) async fn listen(&self, subject: &str, id: usize) {
        self.say(format!("SUB {subject} {id}\r\n").into()).await;
        self.settle().await;
    }

    /// Listens no more, as a server that was killed.
    pub(crate) async fn die(&self, id: usize) {
        self.say(format!("UNSUB {id}\r\n").into()).await;
        self.settle().await;
    }

    pub(crate) async fn publish(&self, subject: &str, reply: &str, headers: &[String], payload: &[u8]) {
        let mut text = if headers.is_empty() {
            format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes()
        } else {
            let head = format!("NATS/1.0\r\n{}\r\n\r\n", headers.join("\r\n"));
            format!("HPUB {subject} {reply} {} {}\r\n{head}", head.len(), head.len() + payload.len()).into_bytes()
        };
        text.extend_from_slice(payload);
        text.extend_from_slice(b"\r\n");
        self.say(text).await;
    }

    /// Waits until the NATS server has done all that was said.
    pub(crate) async fn settle(&self) {
        let mut pongs = self.pongs.clone();
        let before = *pongs.borrow_and_update();
        self.say(b"PING\r\n".into()).await;
        tokio::time::timeout(PATIENCE, pongs.wait_for(|count| *count > before))
            .await
            .expect("an answer of NATS")
            .unwrap();
    }

    async fn say(&self, text: Vec<u8>) {
        self.writer.lock().await.write_all(&text).await.unwrap();
    }
}

impl Drop for Ghosts {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read(
    mut reader: BufReader<tcp::OwnedReadHalf>,
    writer: Arc<Mutex<tcp::OwnedWriteHalf>>,
    pongs: watch::Sender<usize>,
) {
    let mut line = String::new();
    while reader.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        if line.starts_with("PING") {
            drop(writer.lock().await.write_all(b"PONG\r\n").await);
        } else if line.starts_with("PONG") {
            pongs.send_modify(|count| *count += 1);
        } else if line.starts_with("MSG") || line.starts_with("HMSG") {
            // What our servers say is read where they say it.
            let len: usize = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
            let mut message = vec![0; len + 2];
            reader.read_exact(&mut message).await.unwrap();
        } else if line.starts_with("-ERR") {
            panic!("{line}");
        }
        line.clear();
    }
}
