//! The settings of a client, validated.

use std::time::Duration;

use pitaya_protocol::Compression;

use crate::push::QueueLimits;
use crate::reconnect::Reconnect;

/// What [`Builder`](crate::Builder) collects; its methods describe the fields.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The body of our Handshake packet.
    pub(crate) handshake: Vec<u8>,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) packet_timeout: Duration,
    pub(crate) silence: Option<u32>,
    pub(crate) compression: Compression,
    pub(crate) max_packet: usize,
    pub(crate) max_inflated: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) push_limits: QueueLimits,
    pub(crate) reconnect: Option<Reconnect>,
}
