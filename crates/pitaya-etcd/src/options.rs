//! What the settings come to.

use std::{path::Path, time::Duration};

use pitaya_core::{
    Error, Result,
    config::{Config, Setting, Text},
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::{
    client::{Client, Login},
    settings,
};

/// How discovery behaves.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) prefix: Text,
    /// In whole seconds.
    pub(crate) ttl: Duration,
    pub(crate) log_renewals: bool,
    /// Renewing gives up after this long, or never.
    pub(crate) grant_timeout: Option<Duration>,
    /// Renewing gives up after so many failures, or never.
    pub(crate) grant_retries: Option<usize>,
    pub(crate) grant_interval: Duration,
    pub(crate) revoke_timeout: Duration,
    pub(crate) shutdown_delay: Duration,
    pub(crate) sync_interval: Duration,
    pub(crate) sync_parallelism: usize,
}

impl Options {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            prefix: config.get(&settings::PREFIX),
            ttl: Duration::from_secs(config.get(&settings::HEARTBEAT_TTL).as_secs()),
            log_renewals: config.get(&settings::HEARTBEAT_LOG),
            grant_timeout: config.get(&settings::GRANT_TIMEOUT),
            grant_retries: config.get(&settings::GRANT_MAX_RETRIES),
            grant_interval: config.get(&settings::GRANT_RETRY_INTERVAL),
            revoke_timeout: config.get(&settings::REVOKE_TIMEOUT),
            shutdown_delay: config.get(&settings::SHUTDOWN_DELAY),
            sync_interval: config.get(&settings::SYNC_INTERVAL),
            sync_parallelism: config.get(&settings::SYNC_PARALLELISM),
        }
    }

    /// How long healthy servers take to be registered again when etcd has ended their leases.
    pub(crate) fn time_to_come_back(&self) -> Duration {
        self.ttl + self.grant_interval
    }

    /// What the keys of all servers begin with.
    pub(crate) fn servers(&self) -> String {
        format!("{}servers/", self.prefix)
    }
}

/// A client as the settings want it.
pub(crate) fn client(config: &Config) -> Result<Client> {
    let tls = tls(config)?;
    let endpoints = config.get(&settings::ENDPOINTS);
    let endpoints = endpoints.iter().map(|text| endpoint(text, &tls)).collect::<Result<Vec<_>>>()?;
    if endpoints.is_empty() {
        return Err(Error::plain(format!("{}: there must be one", settings::ENDPOINTS.name())));
    }
    let (user, password) = (config.get(&settings::USER), config.get(&settings::PASS));
    let has_login = !user.is_empty() && !password.is_empty();
    let login = has_login.then(|| Login { user: user.into_owned(), password: password.into_owned() });
    let probe = format!("{}health-check", config.get(&settings::PREFIX));
    Ok(Client::new(endpoints, config.get(&settings::DIAL_TIMEOUT), login, probe))
}

fn endpoint(text: &str, tls: &ClientTlsConfig) -> Result<Endpoint> {
    // Not the text itself: somebody may have written a password into it.
    let wrong = |why: &str| Error::plain(format!("{}: {why}", settings::ENDPOINTS.name()));
    if text.contains('@') {
        return Err(wrong("user and password have settings of their own"));
    }
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let endpoint = Endpoint::from_shared(url).map_err(|error| wrong(&format!("{text}: {error}")))?;
    match endpoint.uri().scheme_str() {
        Some("https") => endpoint.tls_config(tls.clone()).map_err(|error| wrong(&format!("{text}: {error:?}"))),
        Some("http") => Ok(endpoint),
        _ => Err(wrong(&format!("{text}: allowed is host:port, http:// or https://"))),
    }
}

fn tls(config: &Config) -> Result<ClientTlsConfig> {
    let tls = match pem(config, &settings::TLS_CA)? {
        Some(authorities) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    match (pem(config, &settings::TLS_CERT)?, pem(config, &settings::TLS_KEY)?) {
        (Some(certificate), Some(key)) => Ok(tls.identity(Identity::from_pem(certificate, key))),
        (None, None) => Ok(tls),
        (Some(_), None) => Err(Error::plain(format!("{} is missing", settings::TLS_KEY.name()))),
        (None, Some(_)) => Err(Error::plain(format!("{} is missing", settings::TLS_CERT.name()))),
    }
}

fn pem(config: &Config, setting: &Setting<Text>) -> Result<Option<Vec<u8>>> {
    let path = config.get(setting);
    if path.is_empty() {
        return Ok(None);
    }
    let unreadable = |error| Error::plain(format!("{} = {path}: {error}", setting.name()));
    std::fs::read(Path::new(&*path)).map(Some).map_err(unreadable)
}
