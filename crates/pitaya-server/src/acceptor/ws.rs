//! Packets in WebSocket messages.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use pitaya_core::{
    Acceptor,
    acceptor::{Established, Framing, Incoming, Link},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, ToSocketAddrs},
};
use tungstenite::{
    error::ProtocolError,
    handshake::{
        machine::TryParse as _,
        server::{Request, create_response, write_response},
    },
};

/// Longest request head; browsers send about 1 KiB, with cookies some more.
const MAX_HEAD: usize = 16 * 1024;

/// Accepts clients over WebSocket, on any path (protocol.md 1.4).
///
/// A visitor that sends a plain HTTP GET can be served too, with [`serve`](Self::serve): a page, or the answer to a health
/// check on the same port.
pub struct WsAcceptor {
    listener: TcpListener,
    address: SocketAddr,
    pages: Option<Pages>,
}

type Pages = Arc<dyn Fn(&str) -> Option<HttpResponse> + Send + Sync>;

/// The answer to a plain HTTP GET.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// What is sent.
    pub body: Bytes,
}

impl WsAcceptor {
    /// Listens on an address such as `0.0.0.0:3251`; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// The address cannot be resolved, or is taken.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        let listener = super::listen(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, pages: None })
    }

    /// Serves plain HTTP GET requests: `pages` gets the path without query and answers, or gives `None` for a 404.
    #[must_use]
    pub fn serve(mut self, pages: impl Fn(&str) -> Option<HttpResponse> + Send + Sync + 'static) -> Self {
        self.pages = Some(Arc::new(pages));
        self
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for WsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsAcceptor").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Acceptor for WsAcceptor {
    async fn accept(&mut self) -> Incoming {
        let (stream, peer) = super::accept(&self.listener).await;
        let pages = self.pages.clone();
        Incoming::new(Some(peer), establish(stream, pages))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.address)
    }
}

/// Reads the HTTP request and answers it. Runs in the connection's own task, under the handshake deadline.
async fn establish(mut stream: TcpStream, pages: Option<Pages>) -> io::Result<Established> {
    let head = match read_head(&mut stream).await {
        Ok(head) => head,
        Err(error) => {
            if let Some(status) = status_of(&error) {
                answer(&mut stream, &response(status, "text/plain", b"only GET and HEAD of HTTP/1.1\n", false)).await?;
            }
            return Err(error);
        }
    };
    let upgrade =
        if head.without_body { Err(ProtocolError::WrongHttpMethod.into()) } else { create_response(&head.request) };
    match upgrade {
        Ok(response) => {
            let mut bytes = Vec::with_capacity(256);
            write_response(&mut bytes, &response).map_err(io::Error::other)?;
            stream.write_all(&bytes).await?;
            let mut link = Link::new(Box::new(stream), Framing::WebSocket);
            link.early = head.early;
            Ok(Established::Link(link))
        }
        Err(error) => {
            let wants_upgrade = head.request.headers().contains_key("upgrade");
            let page = if wants_upgrade { None } else { page(pages.as_ref(), &head) };
            let served = page.is_some();
            answer(&mut stream, &page.unwrap_or_else(|| refusal(wants_upgrade))).await?;
            if served { Ok(Established::Served) } else { Err(io::Error::other(error)) }
        }
    }
}

async fn answer(stream: &mut TcpStream, response: &[u8]) -> io::Result<()> {
    stream.write_all(response).await?;
    stream.shutdown().await
}

/// What a visitor sends before anything else.
struct RequestHead {
    request: Request,
    /// It asks for the head of the answer only.
    without_body: bool,
    /// What came right behind it.
    early: BytesMut,
}

async fn read_head(stream: &mut TcpStream) -> io::Result<RequestHead> {
    let mut bytes = BytesMut::new();
    loop {
        if let Some((len, request, without_body)) = parse(&bytes).map_err(io::Error::other)? {
            drop(bytes.split_to(len));
            return Ok(RequestHead { request, without_body, early: bytes });
        }
        if bytes.len() >= MAX_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the HTTP request head is too long"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads a GET, or a HEAD as the GET that it stands for: the library knows no other methods.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Request, bool)>, tungstenite::Error> {
    let Some(behind) = bytes.strip_prefix(b"HEAD ") else {
        return Ok(Request::try_parse(bytes)?.map(|(len, request)| (len, request, false)));
    };
    let as_get = [b"GET ", behind].concat();
    Ok(Request::try_parse(&as_get)?.map(|(len, request)| (len + 1, request, true)))
}

/// What HTTP says of a request that the library does not read; `None` for what is no HTTP.
fn status_of(error: &io::Error) -> Option<&'static str> {
    match error.get_ref()?.downcast_ref()? {
        tungstenite::Error::Protocol(ProtocolError::WrongHttpMethod) => Some("405 Method Not Allowed"),
        tungstenite::Error::Protocol(ProtocolError::WrongHttpVersion) => Some("505 HTTP Version Not Supported"),
        _ => None,
    }
}

fn page(pages: Option<&Pages>, head: &RequestHead) -> Option<Vec<u8>> {
    let page = pages?(head.request.uri().path());
    Some(match page {
        Some(page) => response("200 OK", page.content_type, &page.body, head.without_body),
        None => response("404 Not Found", "text/plain", b"not found\n", head.without_body),
    })
}

fn refusal(wants_upgrade: bool) -> Vec<u8> {
    if wants_upgrade {
        response("400 Bad Request", "text/plain", b"not a WebSocket handshake\n", false)
    } else {
        response("426 Upgrade Required", "text/plain", b"this port speaks WebSocket\n", false)
    }
}

fn response(status: &str, content_type: &str, body: &[u8], head_only: bool) -> Vec<u8> {
    let len = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n"
    );
    let mut response = head.into_bytes();
    if !head_only {
        response.extend_from_slice(body);
    }
    response
}
