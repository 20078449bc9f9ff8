//! The settings of RPC on NATS: rows of the configuration table.
//!
//! The names are those that Go Pitaya v3 reads; the documented names and those of v2 are accepted as well.

use std::{borrow::Cow, time::Duration};

use pitaya_core::config::{Preset, Row, Setting};

use crate::options;

const SECOND: Duration = Duration::from_secs(1);
const DEFAULT_URL: Cow<'static, str> = Cow::Borrowed("nats://localhost:4222");

/// How many messages may wait to be written to a connection; one more waits for room, within its time-out and in its turn, and
/// fails at once if 65,536 do already. Memory is used only for those that wait.
pub const QUEUE: usize = 16_384;

/// Where the RPC client connects to (K21).
pub static CLIENT_CONNECT: Setting<Cow<'static, str>> = Setting::new(
    "pitaya.cluster.rpc.client.nats.connect",
    DEFAULT_URL,
    "The NATS servers through which other servers are called: one or more addresses, separated by commas.",
)
.aliases(&["pitaya.cluster.rpc.client.nats.address"])
.checked(addresses)
.secret();

/// How long the RPC client waits for a connection (K22).
pub static CLIENT_CONNECTION_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.cluster.rpc.client.nats.connectiontimeout",
    Duration::from_secs(5),
    "How long one attempt to connect to NATS may take, name look-up and log-in included.",
)
.aliases(&["pitaya.cluster.rpc.client.nats.connection.timeout"])
.presets(&[(Preset::GoV2, Duration::from_secs(2)), (Preset::GoV3, Duration::from_secs(2))])
.checked(not_zero);

/// How long a call waits for its answer (K23).
pub static CLIENT_REQUEST_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.cluster.rpc.client.nats.requesttimeout",
    Duration::from_secs(5),
    "How long a call of another server waits for the answer if nobody says otherwise.",
)
.aliases(&["pitaya.cluster.rpc.client.nats.request.timeout"])
.checked(not_zero);

/// How often the RPC client tries to reconnect (K24).
pub static CLIENT_RETRIES: Setting<usize> = Setting::new(
    "pitaya.cluster.rpc.client.nats.maxreconnectionretries",
    0,
    "How many attempts are made to connect to NATS again before the server stops, each address counted; 0 for ever.",
)
.aliases(&["pitaya.cluster.rpc.client.nats.max.reconnection.attempts"])
.presets(&[(Preset::Docs2020, 3), (Preset::GoV2, 15), (Preset::GoV3, 15)]);

/// How long the RPC client waits between two attempts to reconnect.
pub static CLIENT_RECONNECT_WAIT: Setting<Duration> = Setting::new(
    "pitaya.cluster.rpc.client.nats.reconnectwait",
    Duration::from_millis(400),
    "The longest pause between two attempts to connect to NATS again; the first ones are shorter.",
)
.presets(&[(Preset::GoV2, SECOND), (Preset::GoV3, SECOND)])
.checked(a_minute);

/// By how much that pause differs between servers.
pub static CLIENT_RECONNECT_JITTER: Setting<Duration> = Setting::new(
    "pitaya.cluster.rpc.client.nats.reconnectjitter",
    Duration::from_millis(100),
    "Up to so much is added to each of these pauses, so that not all servers come at the same moment.",
)
.checked(a_minute);

/// How often the RPC client looks whether its connection is alive.
pub static CLIENT_PING_INTERVAL: Setting<Duration> = Setting::new(
    "pitaya.cluster.rpc.client.nats.pinginterval",
    Duration::from_secs(5),
    "After so long without a word NATS is asked whether it is there; when it owes two answers, the connection is broken.",
)
.presets(&[(Preset::Docs2020, TWO_MINUTES), (Preset::GoV2, TWO_MINUTES), (Preset::GoV3, TWO_MINUTES)])
.checked(not_zero);

/// Where the RPC server connects to (K25).
pub static SERVER_CONNECT: Setting<Cow<'static, str>> = Setting::new(
    "pitaya.cluster.rpc.server.nats.connect",
    DEFAULT_URL,
    "The NATS servers through which this server is called: one or more addresses, separated by commas.",
)
.aliases(&["pitaya.cluster.rpc.server.nats.address"])
.checked(addresses)
.secret();

/// How long the RPC server waits for a connection (K26).
pub static SERVER_CONNECTION_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.cluster.rpc.server.nats.connectiontimeout",
    Duration::from_secs(5),
    "How long one attempt to connect to NATS may take, name look-up and log-in included.",
)
.aliases(&["pitaya.cluster.rpc.server.nats.connection.timeout"])
.presets(&[(Preset::GoV2, Duration::from_secs(2)), (Preset::GoV3, Duration::from_secs(2))])
.checked(not_zero);

/// How often the RPC server tries to reconnect (K27).
pub static SERVER_RETRIES: Setting<usize> = Setting::new(
    "pitaya.cluster.rpc.server.nats.maxreconnectionretries",
    0,
    "How many attempts are made to connect to NATS again before the server stops, each address counted; 0 for ever.",
)
.aliases(&["pitaya.cluster.rpc.server.nats.max.reconnection.attempts"])
.presets(&[(Preset::Docs2020, 3), (Preset::GoV2, 15), (Preset::GoV3, 15)]);

/// How long the RPC server waits between two attempts to reconnect.
pub static SERVER_RECONNECT_WAIT: Setting<Duration> = Setting::new(
    "pitaya.cluster.rpc.server.nats.reconnectwait",
    Duration::from_millis(400),
    "The longest pause between two attempts to connect to NATS again; the first ones are shorter.",
)
.presets(&[(Preset::GoV2, SECOND), (Preset::GoV3, SECOND)])
.checked(a_minute);

/// By how much that pause differs between servers.
pub static SERVER_RECONNECT_JITTER: Setting<Duration> = Setting::new(
    "pitaya.cluster.rpc.server.nats.reconnectjitter",
    Duration::from_millis(100),
    "Up to so much is added to each of these pauses, so that not all servers come at the same moment.",
)
.checked(a_minute);

/// How often the RPC server looks whether its connection is alive.
pub static SERVER_PING_INTERVAL: Setting<Duration> = Setting::new(
    "pitaya.cluster.rpc.server.nats.pinginterval",
    Duration::from_secs(5),
    "After so long without a word NATS is asked whether it is there; when it owes two answers, the connection is broken.",
)
.presets(&[(Preset::Docs2020, TWO_MINUTES), (Preset::GoV2, TWO_MINUTES), (Preset::GoV3, TWO_MINUTES)])
.checked(not_zero);

/// How many calls of other servers are run at once (K29). Ours is large, since it bounds memory and not throughput. For the
/// engine.
pub static SERVICES: Setting<usize> = Setting::new(
    "pitaya.cluster.rpc.server.nats.services",
    65_536,
    "How many calls of other servers may be unfinished at once; one more waits until one has ended.",
)
.aliases(&["pitaya.concurrency.remote.service"])
.presets(&[(Preset::Docs2020, 10), (Preset::GoV2, 30), (Preset::GoV3, 30)])
.checked(permits);

/// How many calls of other servers wait to be run (K16). Ours is large, since it bounds memory and not throughput. For the
/// engine.
pub static BUFFER_MESSAGES: Setting<usize> = Setting::new(
    "pitaya.cluster.rpc.server.nats.buffer.messages",
    16_384,
    "How many calls of other servers may wait because as many are unfinished as may be; one more is refused.",
)
.aliases(&["pitaya.buffer.cluster.rpc.server.nats.messages", "pitaya.buffer.cluster.grpc.server.nats.messages"])
.presets(&[(Preset::Docs2020, 7), (Preset::GoV2, 75), (Preset::GoV3, 75)])
.checked(permits);

/// How many pushes, kicks and binds of other servers wait between the connection and the engine (K17). Ours is large, since it
/// bounds memory and not throughput. When it is full no more are read, and what the client library cannot hold either is
/// thrown away and counted.
pub static BUFFER_PUSH: Setting<usize> = Setting::new(
    "pitaya.cluster.rpc.server.nats.buffer.push",
    16_384,
    "How many pushes, kicks and binds of other servers may wait to be handed to clients; while so many do, no more are read.",
)
.aliases(&["pitaya.buffer.cluster.rpc.server.nats.push", "pitaya.buffer.cluster.grpc.server.nats.push"])
.presets(&[(Preset::Docs2020, 100), (Preset::GoV2, 100), (Preset::GoV3, 100)])
.checked(permits);

/// All rows of this crate.
#[must_use]
pub fn rows() -> Vec<&'static dyn Row> {
    vec![
        &CLIENT_CONNECT,
        &CLIENT_CONNECTION_TIMEOUT,
        &CLIENT_REQUEST_TIMEOUT,
        &CLIENT_RETRIES,
        &CLIENT_RECONNECT_WAIT,
        &CLIENT_RECONNECT_JITTER,
        &CLIENT_PING_INTERVAL,
        &SERVER_CONNECT,
        &SERVER_CONNECTION_TIMEOUT,
        &SERVER_RETRIES,
        &SERVER_RECONNECT_WAIT,
        &SERVER_RECONNECT_JITTER,
        &SERVER_PING_INTERVAL,
        &SERVICES,
        &BUFFER_MESSAGES,
        &BUFFER_PUSH,
    ]
}

const TWO_MINUTES: Duration = Duration::from_secs(120);

/// Longer waits are none, and would overflow the clock.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[expect(clippy::ptr_arg, reason = "the type of the settings")]
fn addresses(value: &Cow<'static, str>) -> Result<(), &'static str> {
    options::addresses(value).map(drop)
}

fn not_zero(value: &Duration) -> Result<(), &'static str> {
    let fits = !value.is_zero() && *value <= LONGEST;
    fits.then_some(()).ok_or("more than zero, at most a day")
}

fn a_minute(value: &Duration) -> Result<(), &'static str> {
    if *value <= Duration::from_secs(60) { Ok(()) } else { Err("at most a minute") }
}

fn permits(value: &usize) -> Result<(), &'static str> {
    let fits = (1..=1 << 24).contains(value);
    fits.then_some(()).ok_or("1 to 16777216")
}

#[cfg(test)]
mod tests {
    use pitaya_core::config::{ConfigError, Node, Sources, Table};

    use super::*;

    #[test]
    fn names_and_aliases_are_unique_and_defaults_are_allowed() {
        let mut names: Vec<_> =
            rows().iter().flat_map(|row| [row.name()].into_iter().chain(row.aliases().to_vec())).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for row in rows() {
            for preset in [None, Some(Preset::Docs2020), Some(Preset::GoV2), Some(Preset::GoV3)] {
                assert!(row.read(&Node::text(row.default_text(preset))).is_ok(), "{} under {preset:?}", row.name());
            }
        }
    }

    #[test]
    fn presets_have_the_numbers_of_the_others() {
        let of = |preset| {
            let mut sources = Sources::default();
            if let Some(preset) = preset {
                sources.set_preset(preset);
            }
            let config = Table::new(rows()).resolve(sources).unwrap_or_else(|problems| panic!("{problems:?}"));
            let numbers = [&SERVICES, &BUFFER_MESSAGES, &BUFFER_PUSH, &CLIENT_RETRIES, &SERVER_RETRIES];
            let timeouts = [&CLIENT_CONNECTION_TIMEOUT, &SERVER_CONNECTION_TIMEOUT, &CLIENT_REQUEST_TIMEOUT];
            (numbers.map(|row| config.get(row)), timeouts.map(|row| config.get(row).as_secs()))
        };
        assert_eq!(of(None), ([65_536, 16_384, 16_384, 0, 0], [5, 5, 5]));
        assert_eq!(of(Some(Preset::Docs2020)), ([10, 7, 100, 3, 3], [5, 5, 5]));
        for go in [Preset::GoV2, Preset::GoV3] {
            assert_eq!(of(Some(go)), ([30, 75, 100, 15, 15], [2, 2, 5]));
        }
    }

    #[test]
    fn wrong_values_name_their_key_and_what_is_allowed() {
        let table = Table::new(rows());
        let cases = [
            ("pitaya.cluster.rpc.client.nats.address", ""),
            ("pitaya.cluster.rpc.server.nats.connect", " , "),
            ("pitaya.cluster.rpc.server.nats.connect", "a:1,http://b:2"),
            ("pitaya.cluster.rpc.server.nats.connect", "ws://a:1"),
            ("pitaya.cluster.rpc.client.nats.request.timeout", "0"),
            ("pitaya.cluster.rpc.client.nats.connectiontimeout", "0s"),
            ("pitaya.cluster.rpc.server.nats.max.reconnection.attempts", "-1"),
            ("pitaya.buffer.cluster.grpc.server.nats.messages", "0"),
            ("pitaya.buffer.cluster.rpc.server.nats.push", "0"),
            ("pitaya.concurrency.remote.service", "0"),
        ];
        for (name, value) in cases {
            let mut sources = Sources::default();
            sources.set_text(name, value);
            let problems = table.resolve(sources).err().unwrap_or_default();
            assert!(matches!(&problems[..], [ConfigError::Invalid { .. }]), "{name} = {value}: {problems:?}");
        }
    }
}
