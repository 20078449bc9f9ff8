//! The settings of discovery on etcd: rows of the configuration table, with the keys of Pitaya.

use std::{borrow::Cow, time::Duration};

use pitaya_core::{
    Error, Result, ServerType,
    config::{
        Config, List, Preset, Row, Setting, Text,
        checks::{LONGEST, not_endless, not_zero},
    },
};

/// How long one endpoint may take until it is connected and serves (K01).
pub static DIAL_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.cluster.sd.etcd.dialtimeout",
    Duration::from_secs(5),
    "How long one endpoint of etcd may take until it is connected and has answered; then the next one is tried.",
)
.checked(not_zero);

const LOCAL: &[Text] = &[Text::Borrowed("localhost:2379")];

/// Where etcd is (K02).
pub static ENDPOINTS: Setting<List<Text>> = Setting::new(
    "pitaya.cluster.sd.etcd.endpoints",
    Cow::Borrowed(LOCAL),
    "The members of etcd, as host:port, http://host:port, or https://host:port for TLS. One is used at a time.",
)
.checked(|list| {
    let named = !list.is_empty() && list.iter().all(|endpoint| !endpoint.trim().is_empty());
    named.then_some(()).ok_or("one or more endpoints")
});

/// The user at etcd (K03).
pub static USER: Setting<Text> = Setting::new(
    "pitaya.cluster.sd.etcd.user",
    Cow::Borrowed(""),
    "The user at etcd. There is a log-in only if user and password are set.",
);

/// The password at etcd (K04).
pub static PASS: Setting<Text> =
    Setting::new("pitaya.cluster.sd.etcd.pass", Cow::Borrowed(""), "The password of the user at etcd.").secret();

/// The authority of etcd's certificate.
pub static TLS_CA: Setting<Text> = Setting::new(
    "pitaya.cluster.sd.etcd.tls.ca",
    Cow::Borrowed(""),
    "A PEM file with the authorities that may have signed the certificate of an https:// endpoint; without it those of the \
     system.",
);

/// The certificate that is shown to etcd.
pub static TLS_CERT: Setting<Text> = Setting::new(
    "pitaya.cluster.sd.etcd.tls.cert",
    Cow::Borrowed(""),
    "A PEM file with the certificate that is shown to an https:// endpoint which asks for one; needs tls.key, too.",
);

/// The key of the certificate that is shown to etcd.
pub static TLS_KEY: Setting<Text> =
    Setting::new("pitaya.cluster.sd.etcd.tls.key", Cow::Borrowed(""), "A PEM file with the private key of tls.cert.");

/// How long a server that has died is still seen (K05).
pub static HEARTBEAT_TTL: Setting<Duration> = Setting::new(
    "pitaya.cluster.sd.etcd.heartbeatinterval",
    Duration::from_secs(60),
    "How long the others still see a server that has died, in whole seconds: the time to live of its lease, which is renewed \
     three times as often.",
)
.aliases(&["pitaya.cluster.sd.etcd.heartbeat.ttl"])
.checked(|ttl| {
    let fits = ttl.as_secs() > 0 && *ttl <= LONGEST;
    fits.then_some(()).ok_or("at least one second, at most ten years")
});

/// How long registering again may take (K06).
pub static GRANT_TIMEOUT: Setting<Option<Duration>> = Setting::new(
    "pitaya.cluster.sd.etcd.grantlease.timeout",
    None,
    "How long a server whose lease is lost tries to register again before it stops; without it, for ever.",
)
.presets(&[
    (Preset::Docs2020, Some(Duration::from_secs(60))),
    (Preset::GoV2, Some(Duration::from_secs(60))),
    (Preset::GoV3, Some(Duration::from_secs(60))),
])
.checked(|timeout| {
    let fits = timeout.is_none_or(|timeout| not_zero(&timeout).is_ok());
    fits.then_some(()).ok_or("more than zero, at most ten years, or none")
});

/// How often registering again may fail (K07).
pub static GRANT_MAX_RETRIES: Setting<Option<usize>> = Setting::new(
    "pitaya.cluster.sd.etcd.grantlease.maxretries",
    None,
    "How often a server whose lease is lost tries to register again before it stops; without it, for ever.",
)
.presets(&[(Preset::Docs2020, Some(5)), (Preset::GoV2, Some(15)), (Preset::GoV3, Some(15))])
.checked(|retries| if *retries == Some(0) { Err("more than zero, or none") } else { Ok(()) });

/// Between two tries to register again (K08).
pub static GRANT_RETRY_INTERVAL: Setting<Duration> = Setting::new(
    "pitaya.cluster.sd.etcd.grantlease.retryinterval",
    Duration::from_secs(5),
    "The time between the starts of two tries of a server to register again.",
)
.checked(not_zero);

/// How long taking the own key away may take (K09).
pub static REVOKE_TIMEOUT: Setting<Duration> = Setting::new(
    "pitaya.cluster.sd.etcd.revoke.timeout",
    Duration::from_secs(60),
    "How long a stopping server tries to take its key out of etcd; after that it lets its lease run out.",
)
.presets(&[(Preset::GoV2, Duration::from_secs(5)), (Preset::GoV3, Duration::from_secs(5))])
.checked(not_endless);

/// Whether renewals are logged (K10).
pub static HEARTBEAT_LOG: Setting<bool> = Setting::new(
    "pitaya.cluster.sd.etcd.heartbeatlog",
    false,
    "Whether each renewal of the lease is logged, at debug level.",
)
.aliases(&["pitaya.cluster.sd.etcd.heartbeat.log"]);

/// What all keys begin with (K11).
pub static PREFIX: Setting<Text> = Setting::new(
    "pitaya.cluster.sd.etcd.prefix",
    Cow::Borrowed(""),
    "What all keys in etcd begin with, its separator included; servers of different prefixes do not see each other.",
)
.presets(&[(Preset::GoV2, Cow::Borrowed("pitaya/")), (Preset::GoV3, Cow::Borrowed("pitaya/"))]);

/// Between two comparisons of all servers (K12).
pub static SYNC_INTERVAL: Setting<Duration> = Setting::new(
    "pitaya.cluster.sd.etcd.syncserversinterval",
    Duration::from_secs(10),
    "How often the known servers are compared with all keys in etcd, for changes that were not seen.",
)
.aliases(&["pitaya.cluster.sd.etcd.syncservers.interval"])
.presets(&[(Preset::GoV2, Duration::from_secs(120)), (Preset::GoV3, Duration::from_secs(120))])
.checked(not_zero);

/// How long a stopping server goes on after it has left (K13).
pub static SHUTDOWN_DELAY: Setting<Duration> = Setting::new(
    "pitaya.cluster.sd.etcd.shutdowndelay",
    Duration::from_secs(10),
    "How long a stopping server still answers the others after it has taken its key out of etcd; none if it knows no others.",
)
.aliases(&["pitaya.cluster.sd.etcd.shutdown.delay"])
.presets(&[(Preset::GoV2, Duration::from_millis(300)), (Preset::GoV3, Duration::from_millis(300))])
.checked(not_endless);

const NO_TYPES: &[Text] = &[];

/// Types of servers that are not wanted (K14). Whoever makes the list of servers leaves them out: see [`blacklist`].
pub static TYPES_BLACKLIST: Setting<List<Text>> = Setting::new(
    "pitaya.cluster.sd.etcd.servertypesblacklist",
    Cow::Borrowed(NO_TYPES),
    "Types of servers that this server does not want to know of.",
)
.aliases(&["pitaya.cluster.sd.etcd.servertypeblacklist"])
.checked(|types| {
    let names = types.iter().all(|name| ServerType::try_from(name.as_ref()).is_ok());
    names.then_some(()).ok_or("names of server types")
});

/// How many values are read at once (K15).
///
/// A start reads all servers with one request. A comparison ([`SYNC_INTERVAL`]) asks for all keys with one request, and then
/// for the values that are new, one by one: as many at once as this says.
pub static SYNC_PARALLELISM: Setting<usize> = Setting::new(
    "pitaya.cluster.sd.etcd.syncserversparallelism",
    1,
    "How many values of unknown servers are read at once when all servers are compared.",
)
.aliases(&["pitaya.cluster.sd.etcd.syncservers.parallelism"])
.presets(&[(Preset::GoV2, 10), (Preset::GoV3, 10)])
.checked(|count| if (1..=1_000).contains(count) { Ok(()) } else { Err("1 to 1000") });

/// All rows of discovery on etcd.
#[must_use]
pub fn rows() -> Vec<&'static dyn Row> {
    vec![
        &DIAL_TIMEOUT,
        &ENDPOINTS,
        &USER,
        &PASS,
        &TLS_CA,
        &TLS_CERT,
        &TLS_KEY,
        &HEARTBEAT_TTL,
        &GRANT_TIMEOUT,
        &GRANT_MAX_RETRIES,
        &GRANT_RETRY_INTERVAL,
        &REVOKE_TIMEOUT,
        &HEARTBEAT_LOG,
        &PREFIX,
        &SYNC_INTERVAL,
        &SHUTDOWN_DELAY,
        &TYPES_BLACKLIST,
        &SYNC_PARALLELISM,
    ]
}

/// The types of [`TYPES_BLACKLIST`], for [`Servers::new`](pitaya_core::cluster::Servers::new).
///
/// # Errors
///
/// One of them is no valid name.
pub fn blacklist(config: &Config) -> Result<Vec<ServerType>> {
    let types = config.get(&TYPES_BLACKLIST);
    let types = types.iter().map(|name| {
        let named = |error| Error::plain(format!("{} = {name}: {error}", TYPES_BLACKLIST.name()));
        ServerType::try_from(name.as_ref()).map_err(named)
    });
    types.collect()
}
