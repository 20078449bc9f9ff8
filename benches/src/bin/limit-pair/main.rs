//! The limit pair: a hand-written frontend and backend, which send the messages of a cluster through the client library of
//! NATS, or, in one process, through channels of tokio.
//!
//! `limit-pair --role front|back|both [--name NAME] [--nats ADDRESS] [--listen 127.0.0.1:0] [--exit-with-stdin]`
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a benchmark measures real time and owns its tasks itself; that it is ready is a backend's output"
)]

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use pitaya_bench::args::Args;
use pitaya_bench::handshake;
use pitaya_bench::packet::{self, kind};
use pitaya_bench::pair::{self, Client, PairArgs, Role};
use pitaya_bench::server::{ServerArgs, raise_file_limit};
use std::error::Error;
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// The read buffer of a connection; a packet must fit.
const READ_BUFFER: usize = 2 * 1024;

/// How many requests may wait in the channel to the backend; more than are ever in flight.
const QUEUE: usize = 4096;

/// The way to the backend.
#[derive(Clone)]
enum Backend {
    Nats(async_nats::Client, async_nats::Subject),
    Channel(mpsc::Sender<(Bytes, oneshot::Sender<Bytes>)>),
}

impl Backend {
    async fn call(self, request: Bytes) -> io::Result<Bytes> {
        match self {
            Self::Nats(client, subject) => {
                let answer = client.request(subject, request).await.map_err(io::Error::other)?;
                Ok(answer.payload)
            }
            Self::Channel(channel) => {
                let (sender, receiver) = oneshot::channel();
                channel.send((request, sender)).await.map_err(io::Error::other)?;
                receiver.await.map_err(io::Error::other)
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::from_env();
    let server = ServerArgs::take(&mut args)?;
    let pair = PairArgs::take(&mut args)?;
    args.finish()?;
    raise_file_limit()?;

    // As long as a subject of the framework.
    let subject = format!("pitaya/servers/{}/{}-{}", pair::BACK, pair::BACK, pair.name);
    let backend = match pair.role {
        Role::Back => return serve_nats(&pair.nats, subject, &server).await,
        Role::Front => Backend::Nats(async_nats::connect(&pair.nats).await?, subject.into()),
        Role::Both => {
            let (sender, receiver) = mpsc::channel(QUEUE);
            tokio::spawn(serve_channel(receiver));
            Backend::Channel(sender)
        }
    };
    let listener = TcpListener::bind(server.listen).await?;
    server.announce(&[listener.local_addr()?]);
    for number in 1.. {
        let (stream, _) = listener.accept().await?;
        let client = Client::new(number, format!("{}-{}", pair::FRONT, pair.name));
        let backend = backend.clone();
        tokio::spawn(async move {
            if let Err(error) = serve_client(stream, client, backend).await {
                eprintln!("limit-pair: {error}");
            }
        });
    }
    Ok(())
}

/// The backend on NATS.
async fn serve_nats(nats: &str, subject: String, server: &ServerArgs) -> Result<(), Box<dyn Error>> {
    let client = async_nats::connect(nats).await?;
    let mut requests = client.subscribe(subject).await?;
    client.flush().await?;
    println!("ready");
    server.announce(&[]);
    while let Some(request) = requests.next().await {
        let reply = request.reply.ok_or("a request without reply subject")?;
        client.publish(reply, pair::respond(request.payload)?).await?;
    }
    Ok(())
}

/// The backend in the frontend's process.
async fn serve_channel(mut requests: mpsc::Receiver<(Bytes, oneshot::Sender<Bytes>)>) {
    while let Some((request, answer)) = requests.recv().await {
        match pair::respond(request) {
            // A client that has gone does not wait.
            Ok(response) => drop(answer.send(response)),
            Err(error) => eprintln!("limit-pair: {error}"),
        }
    }
}

/// Serves one connection of the frontend: the answers that have come are written with one call.
async fn serve_client(mut stream: TcpStream, client: Client, backend: Backend) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = vec![0; READ_BUFFER];
    let mut output = Vec::with_capacity(READ_BUFFER);
    let mut filled = 0;
    let mut calls = FuturesUnordered::new();
    loop {
        if filled == input.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "packet too long"));
        }
        tokio::select! {
            read = stream.read(&mut input[filled..]) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                filled += read;
                let mut used = 0;
                while let Some((kind, body, length)) = packet::split(&input[used..filled]) {
                    used += length;
                    match kind {
                        kind::DATA => {
                            let (id, request) = client.request(body)?;
                            let answer = backend.clone().call(request);
                            calls.push(async move { (id, answer.await) });
                        }
                        kind::HANDSHAKE => packet::put(&mut output, kind::HANDSHAKE, handshake::response_body()),
                        _ => {}
                    }
                }
                input.copy_within(used..filled, 0);
                filled -= used;
            }
            Some((id, response)) = calls.next() => {
                pair::put_answer(&mut output, id, response?)?;
                while let Some(Some((id, response))) = calls.next().now_or_never() {
                    pair::put_answer(&mut output, id, response?)?;
                }
            }
        }
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
    }
}
