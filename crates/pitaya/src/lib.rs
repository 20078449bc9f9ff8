#![doc = include_str!("../docs/crate.md")]

pub use pitaya_core::{
    Acceptor, App, BoxFuture, CloseReason, Component, ComponentBuilder, Context, Delivery, EncodedPush, Endpoint,
    Error, FromFn, FromRequest, FromRpc, Group, GroupError, GroupName, GroupStore, Handler, HandlerKind,
    HandlerOptions, Handlers, HandshakeData, HandshakeError, HandshakeSys, IntoPayload, IntoReply, Join, Joined, Json,
    JsonSerializer, Layer, Lifecycle, Member, Module, NameError, Needs, Next, Packet, PacketCodec, PacketError,
    PacketKind, Parts, Phase, Place, PomeloCodec, Protobuf, ProtobufSerializer, PushBuilder, RegisteredHandler,
    Remotes, Reply, Reporter, Request, Result, Route, RpcBuilder, Serializer, ServerId, ServerInfo, ServerType,
    Session, SessionId, SessionStep, Tasks, Timer, TimerBuilder, Uid, acceptor, cluster, code, config, extract,
    from_fn, reporter,
};
pub use pitaya_macros::{handlers, remotes};
pub use pitaya_server::{
    BuildError, MemoryGroups, Problem, Serve, ServeError, Server, ServerBuilder,
    acceptor::{HttpResponse, TcpAcceptor, WsAcceptor},
    layers, settings, signal,
};

mod wiring;

pub use bytes::Bytes;
pub use wiring::Cluster;

/// What the attribute macros expand to. Not part of the public API.
#[doc(hidden)]
pub use pitaya_core::__private;

/// What most files of a game need.
pub mod prelude {
    pub use crate::{
        App, Bytes, Context, Error, Json, Next, Parts, Protobuf, Reply, Request, Result, Server, Session, TcpAcceptor,
        Uid, WsAcceptor,
        extract::{Extension, State},
        from_fn, handlers, remotes,
    };

    #[cfg(feature = "validate")]
    pub use crate::extract::Valid;
}

/// The code of the guide for those who come from Go is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/migrating.md")]
mod migrating {}
