//! Where to connect to.

use std::io;

use tokio::net::TcpStream;

use crate::error::ConnectError;
use crate::link::{Io, Link};

/// An address that names a transport this crate has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp {
        /// `host:port`
        authority: String,
    },
    WebSocket {
        /// `host:port`
        authority: String,
        url: String,
    },
}

impl Address {
    /// Reads `tcp://host:port`, `ws://host[:port][/path]` or `host:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, ConnectError> {
        let invalid = |why: &str| ConnectError::Address(format!("{why}: {text:?}"));
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let authority = match rest.find(['/', '?', '#']) {
            Some(end) => &rest[..end],
            None => rest,
        };
        if authority.is_empty() || authority.contains(['@', ' ']) {
            return Err(invalid("no host"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        match scheme {
            "tcp" if !has_port => Err(invalid("no port")),
            "tcp" if !matches!(&rest[authority.len()..], "" | "/") => Err(invalid("tcp has no path")),
            "tcp" => Ok(Self::Tcp { authority: authority.to_owned() }),
            "ws" => Ok(Self::WebSocket {
                authority: if has_port { authority.to_owned() } else { format!("{authority}:80") },
                url: text.to_owned(),
            }),
            _ => Err(invalid("only tcp and ws are supported")),
        }
    }

    /// Connects, and upgrades a WebSocket.
    pub(crate) async fn open(&self, max_packet: usize) -> Result<Link, ConnectError> {
        let (Self::Tcp { authority } | Self::WebSocket { authority, .. }) = self;
        let socket = connect(authority).await.map_err(ConnectError::Io)?;
        self.attach(Box::new(socket), max_packet).await
    }

    /// Makes a link of an open byte stream.
    pub(crate) async fn attach(&self, io: Box<dyn Io>, max_packet: usize) -> Result<Link, ConnectError> {
        match self {
            Self::Tcp { .. } => Ok(Link::stream(io)),
            Self::WebSocket { url, .. } => Link::websocket(io, url, max_packet).await,
        }
    }
}

async fn connect(authority: &str) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(authority).await?;
    // Writes are coalesced already; waiting for more would only delay answers.
    socket.set_nodelay(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_transport_host_and_port() {
        let tcp = |authority: &str| Address::Tcp { authority: authority.to_owned() };
        let ws =
            |authority: &str, url: &str| Address::WebSocket { authority: authority.to_owned(), url: url.to_owned() };
        for (text, expected) in [
            ("tcp://127.0.0.1:3250", tcp("127.0.0.1:3250")),
            ("tcp://localhost:1/", tcp("localhost:1")),
            ("[::1]:3250", tcp("[::1]:3250")),
            ("ws://a:3251/any/path?x", ws("a:3251", "ws://a:3251/any/path?x")),
            ("ws://a", ws("a:80", "ws://a")),
            ("ws://[::1]/", ws("[::1]:80", "ws://[::1]/")),
        ] {
            assert_eq!(Address::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn unusable_addresses_are_refused() {
        for text in [
            "",
            "tcp://",
            "ws:///path",
            "tcp://host",
            "host",
            "host:99999",
            "tcp://host:1/path",
            "wss://host:1",
            "http://host:1",
            "ws://user@host:1",
        ] {
            let error = Address::parse(text);
            assert!(matches!(error, Err(ConnectError::Address(_))), "{text}");
        }
    }
}
