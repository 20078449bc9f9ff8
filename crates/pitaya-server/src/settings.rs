//! The settings of the engine: rows of the configuration table.
//!
//! Set them in files with [`ServerBuilder::config_file`](crate::ServerBuilder::config_file), in the environment with
//! [`environment`](crate::ServerBuilder::environment), in code with [`set`](crate::ServerBuilder::set), or by name and text
//! with [`set_text`](crate::ServerBuilder::set_text). [`config`](pitaya_core::config) says how they are written and which
//! value counts.

use std::time::Duration;

use pitaya_core::config::{
    Preset, Row, Setting, Size,
    checks::{LONGEST, not_endless, not_zero},
};
pub use pitaya_core::extract::STRUCT_VALIDATION;

/// Between two heartbeats; told to the client in the handshake. A client that is silent for two and a half intervals is
/// disconnected (protocol.md 2.6).
pub static HEARTBEAT_INTERVAL: Setting<Duration> = Setting::new(
    "pitaya.heartbeat.interval",
    Duration::from_secs(10),
    "Time between two heartbeats, in whole seconds; a client that is silent for two and a half of them is disconnected.",
)
.presets(&[(Preset::GoV2, Duration::from_secs(30)), (Preset::GoV3, Duration::from_secs(30))])
.checked(whole_seconds);

/// From the connection to the handshake's Ack, what comes before packets (TLS, WebSocket) included.
pub static HANDSHAKE_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.handshake.timeout",
    Duration::from_secs(10),
    "The longest from the connection until the client has acknowledged the handshake.",
)
.checked(not_zero);

/// Longest handshake request.
pub static HANDSHAKE_MAX_SIZE: Setting<Size> =
    Setting::new("pitaya.handshake.maxsize", Size::kib(4), "The longest handshake request that is accepted.")
        .checked(packet_size);

/// Longest packet of a client after the handshake.
pub static PACKET_MAX_SIZE: Setting<Size> =
    Setting::new("pitaya.packet.maxsize", Size::kib(64), "The longest packet that is accepted from a client.")
        .checked(packet_size);

/// Longest that the rest of a packet may take.
pub static PACKET_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.packet.timeout",
    Duration::from_secs(15),
    "The longest from the first byte of a packet to its last.",
)
.checked(not_zero);

/// Largest inflated body.
pub static MESSAGE_MAX_INFLATED: Setting<Size> = Setting::new(
    "pitaya.handler.messages.maxinflated",
    Size::mib(1),
    "The largest that a compressed message of a client may become.",
);

/// Whether those who called are told what a panic said.
pub static PANIC_TEXT: Setting<bool> = Setting::new(
    "pitaya.handler.panictext",
    false,
    "Whether a panic is answered with PIT-000 and its text, as Go Pitaya does; otherwise with PIT-500 and the id of the \
     request, under which the log has the text.",
)
.presets(&[(Preset::GoV2, true), (Preset::GoV3, true)]);

/// Whether bodies to clients are compressed (K41). `gzip` is a word for yes: what clients get is zlib, as they expect.
pub static COMPRESSION: Setting<bool> = Setting::new(
    "pitaya.handler.messages.compression",
    true,
    "Whether bodies to clients are compressed (zlib, also if it says gzip) where that makes them shorter.",
)
.words(&[("gzip", true), ("none", false), ("zlib", true), ("on", true), ("off", false)]);

/// From which size on compressing is tried.
pub static COMPRESSION_THRESHOLD: Setting<Size> = Setting::new(
    "pitaya.handler.messages.compressionthreshold",
    Size(512),
    "Bodies shorter than this are not even tried to be compressed.",
)
.presets(&[(Preset::GoV2, Size(0)), (Preset::GoV3, Size(0))]);

/// How many messages may be queued for a client (K71). Ours is large, since it bounds memory and not throughput.
pub static OUTBOX_MESSAGES: Setting<usize> = Setting::new(
    "pitaya.buffer.agent.messages",
    16_384,
    "How many messages may be queued for a client that does not read; at one more it is disconnected as a slow consumer.",
)
.presets(&[(Preset::Docs2020, 100), (Preset::GoV2, 100), (Preset::GoV3, 100)])
.checked(not_none);

/// How many bytes may be queued for a client.
pub static OUTBOX_BYTES: Setting<Size> = Setting::new(
    "pitaya.buffer.agent.bytes",
    Size::mib(4),
    "How many bytes may be queued for a client that does not read; beyond it is disconnected as a slow consumer.",
)
.checked(|size| if size.0 == 0 { Err("more than zero") } else { Ok(()) });

/// How long a write may make no progress.
pub static WRITE_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.buffer.agent.writetimeout",
    Duration::from_secs(10),
    "How long a write to a client may make no progress before the client is disconnected.",
)
.aliases(&["pitaya.buffer.agent.conntimeout"])
.checked(not_zero);

/// How many messages are handled at once (K74). Ours is large, since it bounds memory and not throughput.
pub static DISPATCH_CONCURRENCY: Setting<usize> = Setting::new(
    "pitaya.concurrency.handler.dispatch",
    65_536,
    "How many messages of clients may be unfinished at once, over all sessions: so many that are handled here, and so many \
     that go to other servers. One more waits until one has ended.",
)
.presets(&[(Preset::Docs2020, 15), (Preset::GoV2, 25), (Preset::GoV3, 25)])
.checked(permits);

/// How many messages wait to be handled before their connections are no longer read (K72).
pub static LOCAL_BUFFER: Setting<usize> = Setting::new(
    "pitaya.buffer.handler.localprocess",
    1_024,
    "How many messages may wait, over all sessions, because as many are unfinished as may be; the connection of one more is \
     not read until it has its turn.",
)
.presets(&[(Preset::Docs2020, 20), (Preset::GoV2, 20), (Preset::GoV3, 20)])
.checked(permits);

/// How many messages wait to be forwarded before their connections are no longer read (K73).
pub static REMOTE_BUFFER: Setting<usize> = Setting::new(
    "pitaya.buffer.handler.remoteprocess",
    1_024,
    "How many messages for other servers may wait, over all sessions, because as many of them are unfinished as may be; the \
     connection of one more is not read until it has its turn.",
)
.presets(&[(Preset::Docs2020, 20), (Preset::GoV2, 20), (Preset::GoV3, 20)])
.checked(permits);

/// How many handlers of one session may be unfinished.
pub static SESSION_UNFINISHED: Setting<usize> = Setting::new(
    "pitaya.session.unfinished",
    16,
    "How many handlers of one session may be unfinished; no more messages of a session that has that many are handled.",
)
.checked(not_none);

/// Whether a user has one session only, over all frontends of a type (K75).
pub static SESSION_UNIQUE: Setting<bool> = Setting::new(
    "pitaya.session.unique",
    true,
    "Whether a user who logs in on another frontend of the same type is kicked from the older one. On one frontend, the older \
     session is closed all the same.",
);

/// Whether this server may call remotes of itself.
pub static LOOPBACK: Setting<bool> = Setting::new(
    "pitaya.cluster.rpc.server.loopbackenabled",
    false,
    "Whether this server may call its own remotes: by its own id, or by its own type, when any server of it is called.",
);

/// How long one bind or close step, or one handshake validator, may take.
pub static SESSION_STEP_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.session.steptimeout",
    Duration::from_secs(10),
    "The longest that one callback of a bind or a close, or one handshake validator, may take.",
)
.checked(not_zero);

/// How long the start of one module or component may take.
pub static MODULE_START_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.modules.starttimeout",
    Duration::from_secs(60),
    "The longest that one module or component may take for each step of the start.",
)
.checked(not_zero);

/// How long the stop of one module or component may take.
pub static MODULE_STOP_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.modules.stoptimeout",
    Duration::from_secs(20),
    "The longest that one module or component may take for each step of the stop.",
)
.checked(not_zero);

/// Whether a stopping server waits until its clients have gone.
pub static DRAIN_ENABLED: Setting<bool> = Setting::new(
    "pitaya.session.drain.enabled",
    false,
    "Whether a stopping server, which accepts no more clients, first waits until those it has are gone.",
);

/// How long a stopping server waits for its clients to go.
pub static DRAIN_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.session.drain.timeout",
    Duration::from_secs(6 * 3600),
    "The longest that a stopping server waits until its clients are gone.",
)
.checked(not_endless);

/// How often a stopping server says how many clients are left.
pub static DRAIN_PERIOD: Setting<Duration> = Setting::new(
    "pitaya.session.drain.period",
    Duration::from_secs(5),
    "How often a stopping server logs how many clients it waits for.",
)
.checked(not_zero);

/// Whether a stopping server kicks its clients.
pub static SHUTDOWN_KICK: Setting<bool> = Setting::new(
    "pitaya.shutdown.kick",
    true,
    "Whether a stopping server kicks its clients before it closes their connections. Clients that reconnect by themselves \
     do so after a close, but not after a kick.",
)
.presets(&[(Preset::GoV2, false), (Preset::GoV3, false)]);

/// How long a stopping server waits for handlers and clients.
pub static SHUTDOWN_GRACE: Setting<Duration> = Setting::new(
    "pitaya.shutdown.graceperiod",
    Duration::from_secs(10),
    "How long a stopping server waits for unfinished handlers and for clients to take what is queued for them.",
)
.checked(not_endless);

/// How often groups in memory are looked through for those whose time to live is over (K85).
pub static GROUPS_MEMORY_TICK: Setting<Duration> = Setting::new(
    "pitaya.groups.memory.tickduration",
    Duration::from_secs(30),
    "How often groups in memory are looked through: one with a time to live that was not renewed is gone at the next tick.",
)
.checked(not_zero);

/// All rows of the engine.
#[must_use]
pub fn rows() -> Vec<&'static dyn Row> {
    vec![
        &HEARTBEAT_INTERVAL,
        &HANDSHAKE_TIMEOUT,
        &HANDSHAKE_MAX_SIZE,
        &PACKET_MAX_SIZE,
        &PACKET_TIMEOUT,
        &MESSAGE_MAX_INFLATED,
        &PANIC_TEXT,
        &COMPRESSION,
        &COMPRESSION_THRESHOLD,
        &OUTBOX_MESSAGES,
        &OUTBOX_BYTES,
        &WRITE_TIMEOUT,
        &DISPATCH_CONCURRENCY,
        &LOCAL_BUFFER,
        &REMOTE_BUFFER,
        &STRUCT_VALIDATION,
        &SESSION_UNFINISHED,
        &SESSION_UNIQUE,
        &LOOPBACK,
        &SESSION_STEP_TIMEOUT,
        &MODULE_START_TIMEOUT,
        &MODULE_STOP_TIMEOUT,
        &DRAIN_ENABLED,
        &DRAIN_TIMEOUT,
        &DRAIN_PERIOD,
        &SHUTDOWN_KICK,
        &SHUTDOWN_GRACE,
        &GROUPS_MEMORY_TICK,
    ]
}

fn whole_seconds(value: &Duration) -> Result<(), &'static str> {
    let whole = value.subsec_nanos() == 0 && !value.is_zero() && *value <= LONGEST;
    whole.then_some(()).ok_or("whole seconds, at least 1s, at most ten years (clients read an integer)")
}

fn not_none(value: &usize) -> Result<(), &'static str> {
    if *value == 0 { Err("at least 1") } else { Ok(()) }
}

fn permits(value: &usize) -> Result<(), &'static str> {
    let fits = (1..=1 << 24).contains(value);
    fits.then_some(()).ok_or("1 to 16777216")
}

fn packet_size(value: &Size) -> Result<(), &'static str> {
    let fits = (64..=pitaya_protocol::MAX_BODY_LEN).contains(&value.0);
    fits.then_some(()).ok_or("64 bytes to 16777215 bytes")
}

#[cfg(test)]
mod tests {
    use pitaya_core::config::{Node, Table};

    use super::*;

    #[test]
    fn names_and_aliases_are_unique_and_defaults_are_allowed() {
        let table = Table::new(rows());
        let mut names: Vec<_> =
            rows().iter().flat_map(|row| [row.name()].into_iter().chain(row.aliases().to_vec())).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for row in table.rows() {
            for preset in [None, Some(Preset::Docs2020), Some(Preset::GoV2), Some(Preset::GoV3)] {
                assert!(row.read(&Node::text(row.default_text(preset))).is_ok(), "{} under {preset:?}", row.name());
            }
        }
    }
}
