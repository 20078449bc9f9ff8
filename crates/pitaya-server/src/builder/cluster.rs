//! What a description says of the cluster.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::Arc,
};

use pitaya_core::{
    Component, Layer, Parts, ProtobufSerializer, Remotes, Reply, Request, Result, Serializer as _, ServerType,
    cluster::{PeerOptions, Router, Wiring},
    config::Config,
};

use super::ServerBuilder;
use crate::{
    Problem,
    pipeline::Pipeline,
    registry::{Registry, RegistryOptions},
    settings,
};

/// What is said of the cluster.
#[derive(Default)]
pub(super) struct ClusterParts {
    pub(super) wiring: Option<Wiring>,
    pub(super) remotes: RemoteParts,
    routers: HashMap<String, Arc<dyn Router>>,
    exposed: Vec<String>,
    /// What the other servers are told of this one.
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) forward_layers: Vec<Box<dyn Layer>>,
}

/// What other servers may call, and what is around it.
#[derive(Default)]
pub(super) struct RemoteParts {
    pub(super) components: Vec<Component>,
    layers: Vec<Box<dyn Layer>>,
    pipeline: Pipeline,
}

impl ServerBuilder {
    /// Makes the server one of a cluster: it finds the others by the adapters of this wiring, and talks to them.
    pub fn cluster(mut self, wiring: Wiring) -> Self {
        self.table.extend(wiring.settings().iter().copied());
        self.cluster.wiring = Some(wiring);
        self
    }

    /// Tells the other servers something about this one: an entry of [`ServerInfo::metadata`](pitaya_core::ServerInfo::metadata). Go
    /// servers look for `grpcHost`, `grpcPort` and `region` there (protocol.md 7). All of it has to fit into 63 KiB.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.cluster.metadata.insert(key.into(), value.into());
        self
    }

    /// Adds the remotes of a type with the attribute `#[remotes]`: what other servers may call, and clients may not. Their
    /// payloads are protobuf, whatever the serializer of the app is.
    ///
    /// An `Arc` of such a type will do, too; one that is added as handlers as well starts and stops once.
    pub fn remotes(self, remotes: impl Remotes) -> Self {
        self.remote_component(Arc::new(remotes).into_remote_component())
    }

    /// Adds remotes that were made with [`Component::builder`].
    pub fn remote_component(mut self, component: Component) -> Self {
        self.cluster.remotes.components.push(component);
        self
    }

    /// Puts a layer around all remotes, as [`layer`](Self::layer) does around handlers. Around the framework's own remotes
    /// there is none.
    pub fn remote_layer(mut self, layer: impl Layer) -> Self {
        self.cluster.remotes.layers.push(Box::new(layer));
        self
    }

    /// Runs a function before each remote, as [`before`](Self::before) does before handlers.
    pub fn remote_before<F, Fut>(mut self, function: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Request>> + Send + 'static,
    {
        self.cluster.remotes.pipeline.before(function);
        self
    }

    /// Runs a function after each remote, as [`after`](Self::after) does after handlers.
    pub fn remote_after<F, Fut>(mut self, function: F) -> Self
    where
        F: Fn(Parts, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        self.cluster.remotes.pipeline.after(function);
        self
    }

    /// Chooses the servers of a type: for clients' messages, and for calls that name the type only. Without a router, any of
    /// them is chosen. A second router for a type replaces the first, with a warning in the log.
    pub fn router(mut self, kind: impl Into<String>, router: impl Router) -> Self {
        let kind = kind.into();
        if self.cluster.routers.contains_key(&kind) {
            tracing::warn!(kind, "the router of this type is replaced by another");
        }
        self.cluster.routers.insert(kind, Arc::new(router));
        self
    }

    /// Lets clients reach servers of these types. Those of this framework say themselves whether they have handlers; those of
    /// Go Pitaya do not, and need to be named here.
    pub fn expose<K: Into<String>>(mut self, kinds: impl IntoIterator<Item = K>) -> Self {
        self.cluster.exposed.extend(kinds.into_iter().map(Into::into));
        self
    }

    /// Puts a layer around clients' messages that go to other servers. Around those, [`layer`](Self::layer) puts none here: the
    /// server that handles them has its own.
    pub fn forward_layer(mut self, layer: impl Layer) -> Self {
        self.cluster.forward_layers.push(Box::new(layer));
        self
    }

    /// The rules of the cluster, and what is said of one that there is not.
    pub(super) fn peer_options(&mut self, config: Option<&Config>, problems: &mut Vec<Problem>) -> PeerOptions {
        let parts = &mut self.cluster;
        let said = [
            ("a router", !parts.routers.is_empty()),
            ("an exposed type", !parts.exposed.is_empty()),
            ("a layer of forwarded messages", !parts.forward_layers.is_empty()),
            ("a remote", !parts.remotes.components.is_empty()),
            ("a layer of remotes", !parts.remotes.layers.is_empty()),
            ("a function around remotes", !parts.remotes.pipeline.is_empty()),
            ("a backend", !self.frontend),
        ];
        if parts.wiring.is_none() {
            problems.extend(said.iter().filter(|(_, said)| *said).map(|(what, _)| Problem::NoCluster { what }));
        }
        let mut kind =
            |name: String| ServerType::try_from(name).map_err(|error| problems.push(Problem::Name(error))).ok();
        let routers = std::mem::take(&mut parts.routers).into_iter();
        let routers = routers.filter_map(|(name, router)| Some((kind(name)?, router))).collect();
        let exposed = std::mem::take(&mut parts.exposed).into_iter().filter_map(kind).collect();
        PeerOptions { routers, exposed, loopback: config.is_some_and(|config| config.get(&settings::LOOPBACK)) }
    }

    /// The remotes, with what is around them: nothing of what is around handlers.
    pub(super) fn remote_registry(
        &self,
        remotes: RemoteParts,
        options: &RegistryOptions<'_>,
        problems: &mut Vec<Problem>,
    ) -> Registry {
        let pipeline = Arc::new(remotes.pipeline);
        let options = RegistryOptions { layers: &remotes.layers, pipeline: &pipeline, ordered: false, ..*options };
        let remotes = Registry::new(remotes.components, &options, problems);
        self.check_needs(&remotes, ProtobufSerializer.name(), problems);
        let with_session = remotes.needs().iter().filter(|(_, needs)| needs.needs_session());
        problems.extend(with_session.map(|(route, _)| Problem::Session { route: route.clone() }));
        remotes
    }
}
