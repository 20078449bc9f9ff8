//! What makes several servers one game: the ports to the others, and what travels through them.
//!
//! * [`Discovery`] finds the other servers and keeps the list of them in [`Servers`].
//! * [`RpcClient`] and [`RpcServer`] carry encoded messages of [`protos`] between servers. What the messages mean is the
//!   engine's business: it implements [`RpcService`].
//! * [`Metadata`] travels with each call and is handed on by the calls that it causes.
//!
//! A [`Wiring`] says which adapters a server uses.

mod metadata;
mod peers;
mod ports;
pub mod protos;
mod router;
mod rpc_error;
mod servers;

pub(crate) use metadata::new_request_id;
pub use metadata::{Metadata, MetadataError};
pub use peers::{Call, PeerOptions, Peers};
pub use ports::{
    Adapters, Capacity, ClusterContext, DROPPED_MESSAGES, Discovery, Responder, RpcClient, RpcServer, RpcService,
    Topic, Wiring,
};
pub use router::{Choice, Random, Router, Routing, Sticky};
pub use rpc_error::{RpcError, TIMED_OUT};
pub use servers::{MAX_SERVERS, ServerList, Servers};
