//! The keys of Pitaya, documented or read by its Go code, whether or not a part of this app has a row for them.
//!
//! They are accepted, so that the configuration of a game moves over as it is, and warned about where they do nothing.
//! A row is found before its name here, so a new row needs no change of these lists.

/// The first segment of all of Pitaya's keys.
pub(super) const ROOT: &str = "pitaya";

/// The known name that a key is, or below which it lies.
pub(super) fn find(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase();
    let above = |tree: &str| key == tree || key.strip_prefix(tree).is_some_and(|rest| rest.starts_with('.'));
    let tree = TREES.iter().find(|tree| above(tree));
    tree.or_else(|| NAMES.iter().find(|name| **name == key)).copied()
}

/// Whether a variable of the environment is that of a known key.
pub(super) fn has_variable(variable: &str) -> bool {
    names().any(|name| super::table::variable(name) == variable)
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().chain(TREES).copied()
}

/// Keys that have tables or arrays of tables below them.
const TREES: &[&str] = &[
    "pitaya.metrics.additionallabels",
    "pitaya.metrics.additionaltags",
    "pitaya.metrics.constantlabels",
    "pitaya.metrics.constanttags",
    "pitaya.metrics.constlabels",
    "pitaya.metrics.consttags",
    "pitaya.metrics.custom",
    "pitaya.metrics.customcounters",
    "pitaya.metrics.customgauges",
    "pitaya.metrics.customsummaries",
    "pitaya.metrics.customsummaryobjectives",
    "pitaya.metrics.prometheus.additionaltags",
];

const NAMES: &[&str] = &[
    "pitaya.acceptor.proxyprotocol",
    "pitaya.buffer.agent.conntimeout",
    "pitaya.buffer.agent.messages",
    "pitaya.buffer.agent.writetimeout",
    "pitaya.buffer.cluster.grpc.server.nats.messages",
    "pitaya.buffer.cluster.grpc.server.nats.push",
    "pitaya.buffer.cluster.rpc.server.nats.messages",
    "pitaya.buffer.cluster.rpc.server.nats.push",
    "pitaya.buffer.handler.localprocess",
    "pitaya.buffer.handler.remoteprocess",
    "pitaya.cluster.info.region",
    "pitaya.cluster.rpc.client.grpc.dial.timeout",
    "pitaya.cluster.rpc.client.grpc.dialtimeout",
    "pitaya.cluster.rpc.client.grpc.lazy.connection",
    "pitaya.cluster.rpc.client.grpc.lazyconnection",
    "pitaya.cluster.rpc.client.grpc.request.timeout",
    "pitaya.cluster.rpc.client.grpc.requesttimeout",
    "pitaya.cluster.rpc.client.nats.address",
    "pitaya.cluster.rpc.client.nats.connect",
    "pitaya.cluster.rpc.client.nats.connection.timeout",
    "pitaya.cluster.rpc.client.nats.connectiontimeout",
    "pitaya.cluster.rpc.client.nats.max.reconnection.attempts",
    "pitaya.cluster.rpc.client.nats.maxpingsoutstanding",
    "pitaya.cluster.rpc.client.nats.maxreconnectionretries",
    "pitaya.cluster.rpc.client.nats.pinginterval",
    "pitaya.cluster.rpc.client.nats.reconnectjitter",
    "pitaya.cluster.rpc.client.nats.reconnectjittertls",
    "pitaya.cluster.rpc.client.nats.reconnectwait",
    "pitaya.cluster.rpc.client.nats.request.timeout",
    "pitaya.cluster.rpc.client.nats.requesttimeout",
    "pitaya.cluster.rpc.client.nats.websocketcompression",
    "pitaya.cluster.rpc.server.grpc.externalport",
    "pitaya.cluster.rpc.server.grpc.port",
    "pitaya.cluster.rpc.server.loopbackenabled",
    "pitaya.cluster.rpc.server.nats.address",
    "pitaya.cluster.rpc.server.nats.buffer.messages",
    "pitaya.cluster.rpc.server.nats.buffer.push",
    "pitaya.cluster.rpc.server.nats.connect",
    "pitaya.cluster.rpc.server.nats.connection.timeout",
    "pitaya.cluster.rpc.server.nats.connectiontimeout",
    "pitaya.cluster.rpc.server.nats.max.reconnection.attempts",
    "pitaya.cluster.rpc.server.nats.maxpingsoutstanding",
    "pitaya.cluster.rpc.server.nats.maxreconnectionretries",
    "pitaya.cluster.rpc.server.nats.pinginterval",
    "pitaya.cluster.rpc.server.nats.reconnectjitter",
    "pitaya.cluster.rpc.server.nats.reconnectjittertls",
    "pitaya.cluster.rpc.server.nats.reconnectwait",
    "pitaya.cluster.rpc.server.nats.services",
    "pitaya.cluster.rpc.server.nats.websocketcompression",
    "pitaya.cluster.sd.etcd.dialtimeout",
    "pitaya.cluster.sd.etcd.endpoints",
    "pitaya.cluster.sd.etcd.grantlease.maxretries",
    "pitaya.cluster.sd.etcd.grantlease.retryinterval",
    "pitaya.cluster.sd.etcd.grantlease.timeout",
    "pitaya.cluster.sd.etcd.heartbeat.log",
    "pitaya.cluster.sd.etcd.heartbeat.ttl",
    "pitaya.cluster.sd.etcd.heartbeatinterval",
    "pitaya.cluster.sd.etcd.heartbeatlog",
    "pitaya.cluster.sd.etcd.pass",
    "pitaya.cluster.sd.etcd.prefix",
    "pitaya.cluster.sd.etcd.revoke.timeout",
    "pitaya.cluster.sd.etcd.servertypeblacklist",
    "pitaya.cluster.sd.etcd.servertypesblacklist",
    "pitaya.cluster.sd.etcd.shutdown.delay",
    "pitaya.cluster.sd.etcd.shutdowndelay",
    "pitaya.cluster.sd.etcd.syncservers.interval",
    "pitaya.cluster.sd.etcd.syncservers.parallelism",
    "pitaya.cluster.sd.etcd.syncserversinterval",
    "pitaya.cluster.sd.etcd.syncserversparallelism",
    "pitaya.cluster.sd.etcd.user",
    "pitaya.concurrency.handler.dispatch",
    "pitaya.concurrency.remote.service",
    "pitaya.conn.ratelimiting.forcedisable",
    "pitaya.conn.ratelimiting.interval",
    "pitaya.conn.ratelimiting.limit",
    "pitaya.defaultpipelines.structvalidation.enabled",
    "pitaya.groups.etcd.dialtimeout",
    "pitaya.groups.etcd.endpoints",
    "pitaya.groups.etcd.prefix",
    "pitaya.groups.etcd.timeout",
    "pitaya.groups.etcd.transactiontimeout",
    "pitaya.groups.memory.tickduration",
    "pitaya.handler.messages.compression",
    "pitaya.heartbeat.interval",
    "pitaya.metrics.game",
    "pitaya.metrics.period",
    "pitaya.metrics.periodicmetrics.period",
    "pitaya.metrics.prometheus.enabled",
    "pitaya.metrics.prometheus.port",
    "pitaya.metrics.statsd.enabled",
    "pitaya.metrics.statsd.host",
    "pitaya.metrics.statsd.prefix",
    "pitaya.metrics.statsd.rate",
    "pitaya.modules.bindingstorage.etcd.dialtimeout",
    "pitaya.modules.bindingstorage.etcd.endpoints",
    "pitaya.modules.bindingstorage.etcd.lease",
    "pitaya.modules.bindingstorage.etcd.leasettl",
    "pitaya.modules.bindingstorage.etcd.prefix",
    "pitaya.modules.bindingstorage.etcd.timeout",
    "pitaya.serializertype",
    "pitaya.session.drain.enabled",
    "pitaya.session.drain.period",
    "pitaya.session.drain.timeout",
    "pitaya.session.unique",
    "pitaya.worker.concurrency",
    "pitaya.worker.namespace",
    "pitaya.worker.redis.password",
    "pitaya.worker.redis.pool",
    "pitaya.worker.redis.serverurl",
    "pitaya.worker.redis.url",
    "pitaya.worker.retry.enabled",
    "pitaya.worker.retry.exponential",
    "pitaya.worker.retry.max",
    "pitaya.worker.retry.maxdelay",
    "pitaya.worker.retry.maxrandom",
    "pitaya.worker.retry.mindelay",
];
