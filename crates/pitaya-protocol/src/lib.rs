//! The Pitaya client protocol without I/O: packets, messages, routes, handshake and connection state.
//!
//! A connection carries [`Packet`]s; the body of a Data packet is one message, whose [`Head`] says what kind it is,
//! which request it belongs to and where it goes. Nothing here reads a socket, a clock or a configuration: decoders
//! take bytes and limits, [`Connection`] takes the time as an argument. That makes server and client share one
//! implementation, and lets tests drive every timeout without waiting.
//!
//! The contract is `docs/protocol.md` of this repository; the documentation of each item names the section.
//!
//! # Examples
//!
//! A request for `room.room.join` with id 1, as a client sends it:
//!
//! ```
//! use bytes::BytesMut;
//! use pitaya_protocol::{Head, MessageKind, PacketCodec, PacketKind, PomeloCodec, RouteRef};
//!
//! let mut received = BytesMut::from(&b"\x04\x00\x00\x13\x00\x01\x0eroom.room.join{}"[..]);
//! let packet = PomeloCodec.decode(&mut received, 4096)?.ok_or("more bytes needed")?;
//! assert_eq!(packet.kind, PacketKind::Data);
//!
//! let head = Head::decode(&packet.body)?;
//! assert_eq!((head.kind, head.id), (MessageKind::Request, 1));
//! assert_eq!(head.route, RouteRef::Name("room.room.join"));
//! assert_eq!(&packet.body[head.body_at..], b"{}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules
//!
//! | module | what it holds |
//! |---|---|
//! | [`packet`] | the 4-byte header and the codec trait |
//! | [`message`] | message heads and whole messages |
//! | [`compression`] | bounded zlib |
//! | [`dictionary`] | route codes |
//! | [`route`] | `[serverType.]service.method` |
//! | [`handshake`] | the two JSON bodies |
//! | [`connection`] | the state machine and its timers |

#![allow(clippy::disallowed_types, reason = "time is an argument here")]

pub mod compression;
pub mod connection;
pub mod dictionary;
pub mod handshake;
pub mod message;
pub mod packet;
pub mod route;

pub use compression::{Compression, InflateError, inflate, looks_compressed};
pub use connection::{CloseReason, Connection, Event, Limits, ProtocolError, Role, State, TimeoutAction, Timeouts};
pub use dictionary::{Dictionary, DictionaryError};
pub use handshake::{HandshakeData, HandshakeError, HandshakeReason, HandshakeResponse, HandshakeSys};
pub use message::{
    EncodeOptions, Head, HeadBuf, InvalidReason, MAX_HEAD_LEN, MAX_ROUTE_LEN, Message, MessageError, MessageKind,
    ResponseHead, RouteRef,
};
pub use packet::{HEADER_LEN, MAX_BODY_LEN, Packet, PacketCodec, PacketError, PacketKind, PomeloCodec};
pub use route::{Route, RouteError, RouteParts};
