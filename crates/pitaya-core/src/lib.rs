//! Vocabulary and ports of Pitaya in Rust.
//!
//! Handlers, extractors, modules and adapters are written against this crate; it contains no engine and opens no socket.
//! Users depend on the `pitaya` crate, which re-exports what they need; authors of acceptors, group stores, reporters
//! or serializers can depend on this crate alone.
//!
//! * What a handler sees: [`App`], [`Session`], [`Context`], [`Request`], the extractors of [`extract`], [`Error`].
//! * How handlers are registered: [`Component`], [`Handlers`], [`Endpoint`], [`Layer`] and [`from_fn`].
//! * What can be replaced: [`Acceptor`], [`GroupStore`], [`Reporter`], [`Serializer`],
//!   [`PacketCodec`], and [`SessionStep`] for what joins bind and close.
//! * What is called at start and stop: [`Lifecycle`]; what runs in the background: [`Tasks`] and their timers.
//! * How it is configured: [`config`].

pub mod acceptor;
pub mod apart;
mod app;
pub mod cluster;
mod component;
pub mod config;
mod context;
mod endpoint;
mod error;
pub mod extract;
mod group;
mod handler;
mod id;
mod lifecycle;
mod payload;
mod protobuf;
mod push;
pub mod reporter;
mod request;
mod rpc;
mod serializer;
mod server_info;
mod session;
mod tasks;
mod timer;

pub use acceptor::Acceptor;
pub use app::{App, AppParts};
pub use component::{Component, ComponentBuilder, HandlerKind, HandlerOptions, Handlers, RegisteredHandler, Remotes};
pub use context::Context;
pub use endpoint::{Endpoint, FromFn, Layer, Next, from_fn};
pub use error::{Error, Result, code};
pub use extract::FromRequest;
pub use group::{Group, GroupError, GroupStore, Join, Joined, Member};
pub use handler::Handler;
pub use id::{GroupName, NameError, ServerId, ServerType, SessionId, Uid};
pub use lifecycle::{Lifecycle, Module, Phase};
pub use payload::{IntoPayload, IntoReply, Json};
pub use pitaya_protocol::{
    HandshakeData, HandshakeError, HandshakeSys, Packet, PacketCodec, PacketError, PacketKind, PomeloCodec, Route,
};
pub use protobuf::{Protobuf, ProtobufSerializer};
pub use push::{Delivery, EncodedPush, PushBuilder, PushFormat};
pub use reporter::Reporter;
pub use request::{Needs, Parts, Place, Reply, Request};
pub use rpc::{FromRpc, RpcBuilder};
pub use serializer::{JsonSerializer, Serializer};
pub use server_info::{ServerInfo, ServerInfoError};
pub use session::{
    CloseReason, DataChanges, HandledBy, PoolOptions, Pushed, RemoteLink, Session, SessionLink, SessionPool,
    SessionStep, StepList,
};
pub use tasks::{Tasks, panic_text};
pub use timer::{Timer, TimerBuilder};

use std::pin::Pin;

/// A boxed future that may be sent between threads: what the object-safe ports return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the attribute macros expand to. Not part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use std::{boxed::Box, sync::Arc};

    use crate::{ComponentBuilder, FromRequest, IntoReply, Lifecycle, Needs, Reply, extract};

    /// Asks whether `C` has a [`Lifecycle`]: of the two traits below, `(&Probe::<C>::new()).live(builder)` takes the method
    /// of the first that fits.
    #[derive(Debug)]
    pub struct Probe<C>(std::marker::PhantomData<C>);

    impl<C> Probe<C> {
        /// Asks about `C`.
        #[expect(clippy::new_without_default, reason = "only the macro makes one")]
        #[must_use]
        pub const fn new() -> Self {
            Self(std::marker::PhantomData)
        }
    }

    /// A component with a lifecycle takes part in start and stop.
    pub trait Living<C> {
        /// Registers the lifecycle.
        fn live(&self, builder: ComponentBuilder<C>) -> ComponentBuilder<C>;
    }

    impl<C: Lifecycle> Living<C> for Probe<C> {
        fn live(&self, builder: ComponentBuilder<C>) -> ComponentBuilder<C> {
            builder.lifecycle()
        }
    }

    /// Any other component does not.
    pub trait Plain<C> {
        /// Registers nothing.
        fn live(&self, builder: ComponentBuilder<C>) -> ComponentBuilder<C>;
    }

    impl<C> Plain<C> for &Probe<C> {
        fn live(&self, builder: ComponentBuilder<C>) -> ComponentBuilder<C> {
            builder
        }
    }

    /// Records what an argument needs that is not the last one: it may not consume the payload.
    pub fn part<T, C>(needs: &mut Needs, _component: &Arc<C>)
    where
        T: FromRequest<C>,
        T::Takes: extract::MayPrecede<T>,
    {
        T::needs(needs);
    }

    /// Records what the last argument needs.
    pub fn last<T: FromRequest<C>, C>(needs: &mut Needs, _component: &Arc<C>) {
        T::needs(needs);
    }

    /// Records what a reply needs, from the future that yields it.
    pub fn reply_needs<T: IntoReply>(needs: &mut Needs) {
        T::needs(needs);
    }

    /// Turns what a handler returned into a reply.
    pub fn reply<T: IntoReply>(value: T) -> Reply {
        value.into_reply()
    }
}
