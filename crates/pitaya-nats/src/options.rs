//! How one end of the RPC connects.

use std::{
    borrow::Cow,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use async_nats::{ConnectOptions, ServerAddr};
use pitaya_core::{
    Error, Result,
    config::{Config, Setting},
};

use crate::settings::{self, QUEUE};

/// How many messages of one subscription may wait for their reader, which never waits itself: more than the connection
/// reads in one turn.
const SUBSCRIPTION_BUFFER: usize = 1 << 18;

/// The first pause between two attempts to reconnect; each one after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// What the settings say about one of the two connections.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) addresses: Vec<ServerAddr>,
    /// For one address.
    pub(crate) timeout: Duration,
    /// 0 for ever.
    pub(crate) retries: usize,
    wait: Duration,
    jitter: Duration,
    ping: Duration,
    /// The names of the settings, for errors.
    pub(crate) connect_key: &'static str,
    pub(crate) retries_key: &'static str,
}

impl Options {
    pub(crate) fn of_client(config: &Config) -> Result<Self> {
        Ok(Self {
            addresses: parsed(config, &settings::CLIENT_CONNECT)?,
            timeout: config.get(&settings::CLIENT_CONNECTION_TIMEOUT),
            retries: config.get(&settings::CLIENT_RETRIES),
            wait: config.get(&settings::CLIENT_RECONNECT_WAIT),
            jitter: config.get(&settings::CLIENT_RECONNECT_JITTER),
            ping: config.get(&settings::CLIENT_PING_INTERVAL),
            connect_key: settings::CLIENT_CONNECT.name(),
            retries_key: settings::CLIENT_RETRIES.name(),
        })
    }

    pub(crate) fn of_server(config: &Config) -> Result<Self> {
        Ok(Self {
            addresses: parsed(config, &settings::SERVER_CONNECT)?,
            timeout: config.get(&settings::SERVER_CONNECTION_TIMEOUT),
            retries: config.get(&settings::SERVER_RETRIES),
            wait: config.get(&settings::SERVER_RECONNECT_WAIT),
            jitter: config.get(&settings::SERVER_RECONNECT_JITTER),
            ping: config.get(&settings::SERVER_PING_INTERVAL),
            connect_key: settings::SERVER_CONNECT.name(),
            retries_key: settings::SERVER_RETRIES.name(),
        })
    }

    /// What the library is told; `name` is what NATS shows of this connection.
    pub(crate) fn library(&self, name: &str) -> ConnectOptions {
        let (wait, jitter) = (self.wait, self.jitter);
        let options = ConnectOptions::new()
            .name(name)
            .connection_timeout(self.timeout)
            .max_reconnects(self.retries)
            .ping_interval(self.ping)
            .client_capacity(QUEUE)
            .subscription_capacity(SUBSCRIPTION_BUFFER)
            .reconnect_delay_callback(move |attempt| pause(attempt, wait, jitter));
        match credentials(&self.addresses) {
            Some((user, Some(password))) => options.user_and_password(user, password),
            // A name alone is a token, as in the clients for Go.
            Some((token, None)) => options.token(token),
            None => options,
        }
    }

    /// The addresses without the secrets in them.
    pub(crate) fn shown(&self) -> String {
        let shown: Vec<_> =
            self.addresses.iter().map(|address| format!("{}:{}", address.host(), address.port())).collect();
        shown.join(", ")
    }
}

/// How long to wait before an attempt to connect; the first one is 1.
fn pause(attempt: usize, wait: Duration, jitter: Duration) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(attempt - 2).unwrap_or(u32::MAX).min(20);
    let pause = (FIRST_WAIT * 2_u32.pow(doublings)).min(wait);
    // The keys of each hasher differ: random enough not to come at the same moment as others.
    let share = f64::from(RandomState::new().hash_one(attempt) as u32) / f64::from(u32::MAX);
    pause + jitter.min(pause).mul_f64(share)
}

fn parsed(config: &Config, setting: &'static Setting<Cow<'static, str>>) -> Result<Vec<ServerAddr>> {
    let value = config.get(setting);
    addresses(&value).map_err(|allowed| {
        // Without the value: a password may be in it.
        Error::plain(format!("{}: allowed is {allowed}", setting.name()))
    })
}

/// Reads a list of addresses, or says what is allowed.
pub(crate) fn addresses(list: &str) -> Result<Vec<ServerAddr>, &'static str> {
    const ALLOWED: &str = "one or more addresses such as nats://localhost:4222 or localhost:4222, separated by commas";
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parsed: Result<Vec<ServerAddr>, _> = parts.map(str::parse).collect();
    let parsed = parsed.map_err(|_| ALLOWED)?;
    let usable = |address: &ServerAddr| !address.is_websocket() && !address.host().is_empty();
    if parsed.is_empty() || !parsed.iter().all(usable) { Err(ALLOWED) } else { Ok(parsed) }
}

/// The first log-in that an address has.
fn credentials(addresses: &[ServerAddr]) -> Option<(String, Option<String>)> {
    addresses.iter().find_map(|address| Some((decoded(address.username()?), address.password().map(decoded))))
}

/// Undoes the escapes of a URL (`%40` for `@`).
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(*high).zip(digit(*low))
            }
            _ => None,
        };
        if let Some((high, low)) = escaped {
            bytes.push(high * 16 + low);
            rest = &rest[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use pitaya_core::config::{Sources, Table};

    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_scheme_and_their_secrets_not_shown() {
        let at = |addresses: &'static str| {
            let mut sources = Sources::default();
            sources.set(&settings::CLIENT_CONNECT, addresses.into());
            Table::new(settings::rows()).resolve(sources)
        };
        let config = at("a, nats://b:1 ,tls://me:p%40ss%2@c:2,").unwrap_or_else(|problems| panic!("{problems:?}"));
        let options = Options::of_client(&config).unwrap();
        assert_eq!(options.shown(), "a:4222, b:1, c:2");
        assert_eq!(credentials(&options.addresses), Some(("me".into(), Some("p@ss%2".into()))));
        assert_eq!(credentials(&addresses("a,nats://token@b").unwrap()), Some(("token".into(), None)));
        for wrong in ["", ",", "a:b:c", "http://a", "ws://a", "nats://"] {
            assert!(addresses(wrong).is_err(), "{wrong:?}");
        }
        let problems = at("x://me:secret@host").err().unwrap();
        let error = problems[0].to_string();
        assert!(error.contains("pitaya.cluster.rpc.client.nats.connect") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn pauses_grow_up_to_the_longest_and_differ() {
        let pause = |attempt| pause(attempt, Duration::from_millis(400), Duration::from_millis(100));
        assert_eq!((pause(0), pause(1)), (Duration::ZERO, Duration::ZERO));
        assert!((10..=20).contains(&pause(2).as_millis()));
        let long: Vec<_> = (30..60).map(pause).collect();
        assert!(long.iter().all(|pause| (400..=500).contains(&pause.as_millis())));
        assert!(long.iter().any(|pause| *pause != long[0]));
    }
}
