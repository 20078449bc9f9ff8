//! The limit server: a hand-written loop, one task for each connection.
//!
//! `limit-server [--listen 127.0.0.1:0] [--transport tcp|ws] [--mode json|echo|broadcast] [--exit-with-stdin]`
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark measures real time and owns its tasks itself"
)]

mod broadcast;

use broadcast::Hub;
use pitaya_bench::args::Args;
use pitaya_bench::limit::{Limit, Mode};
use pitaya_bench::server::{ServerArgs, raise_file_limit};
use pitaya_bench::{Transport, upgrade};
use std::error::Error;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The read buffer of a connection; a packet must fit.
const READ_BUFFER: usize = 2 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::from_env();
    let server = ServerArgs::take(&mut args)?;
    let mode = args.value("--mode")?.unwrap_or(Mode::Json);
    args.finish()?;

    raise_file_limit()?;
    if mode == Mode::Broadcast && server.transport == Transport::WebSocket {
        return Err("broadcasts are compared on TCP only".into());
    }
    let listener = TcpListener::bind(server.listen).await?;
    server.announce(&[listener.local_addr()?]);
    let hub = Arc::new(Hub::default());
    let limit = Limit { mode, transport: server.transport };
    loop {
        let (stream, _) = listener.accept().await?;
        let hub = Arc::clone(&hub);
        tokio::spawn(async move {
            let served = match mode {
                Mode::Json | Mode::Echo => serve(stream, limit).await,
                Mode::Broadcast => broadcast::serve(stream, limit, hub).await,
            };
            if let Err(error) = served {
                eprintln!("limit-server: {error}");
            }
        });
    }
}

/// Serves one connection: what one read brought is answered with one write.
async fn serve(mut stream: TcpStream, limit: Limit) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if limit.transport == Transport::WebSocket {
        accept_websocket(&mut stream).await?;
    }
    let mut input = vec![0; READ_BUFFER];
    let mut output = Vec::with_capacity(READ_BUFFER);
    let mut filled = 0;
    loop {
        if filled == input.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "packet too long"));
        }
        let read = stream.read(&mut input[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let used = limit.answer(&mut input[..filled], &mut output)?;
        input.copy_within(used..filled, 0);
        filled -= used;
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
    }
}

/// Answers the HTTP request that opens a WebSocket. The client waits for the answer, so nothing
/// follows the head.
async fn accept_websocket(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while upgrade::head_len(&head).is_none() {
        if head.len() > READ_BUFFER || stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    stream.write_all(upgrade::answer(&head)?.as_bytes()).await
}
