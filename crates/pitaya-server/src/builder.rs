//! The description of a server.

mod cluster;

use std::{
    any::{Any, TypeId},
    collections::{HashMap, HashSet},
    fmt,
    future::Future,
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize},
};

use pitaya_core::{
    Acceptor, App, AppParts, CloseReason, Component, GroupStore, Handlers, HandshakeData, JsonSerializer, Layer,
    Lifecycle, Module, Parts as MessageParts, PoolOptions, PushFormat, Reply, Reporter, Request, Result as CoreResult,
    Serializer, ServerId, ServerInfo, Session, SessionPool, SessionStep, StepList, Tasks, Uid,
    cluster::{Adapters, ClusterContext, PeerOptions, Peers, Servers},
    config::{Config, Preset, Row, Setting, Sources, Table, Value},
    reporter::NoReporter,
};
use pitaya_protocol::{Compression, Dictionary, HandshakeResponse, Limits, PacketCodec, PomeloCodec, Timeouts};
use tokio_util::sync::CancellationToken;

use cluster::ClusterParts;

use crate::{
    BuildError, MemoryGroups, Problem, Server,
    acceptor::AnyAcceptor,
    cluster::{Cluster, ClusterStep, Unique, forward::Forwarder},
    connection::Dispatch,
    engine::{Engine, HandshakeBodies, Options},
    lifecycle::Parts,
    metrics::Metrics,
    pipeline::Pipeline,
    registry::{Places, Registry, RegistryOptions},
    settings,
};

/// Room for what a server adds to its metadata by itself, in bytes of JSON.
const OWN_METADATA: usize = 1024;

/// Describes a server. Nothing is decided by the order of calls, but the order of layers, steps and acceptors.
#[must_use = "a description becomes a server with `build`"]
pub struct ServerBuilder {
    kind: String,
    frontend: bool,
    id: Option<String>,
    acceptors: Vec<Box<dyn AnyAcceptor>>,
    components: Vec<Component>,
    modules: Vec<Module>,
    layers: Vec<Box<dyn Layer>>,
    pipeline: Pipeline,
    ordered: bool,
    steps: StepList,
    states: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    dictionary: Vec<(String, u16)>,
    push_codes: bool,
    serializer: Arc<dyn Serializer>,
    codec: Arc<dyn PacketCodec>,
    groups: Arc<dyn GroupStore>,
    reporter: Arc<dyn Reporter>,
    sources: Sources,
    table: Table,
    cluster: ClusterParts,
}

impl ServerBuilder {
    pub(crate) fn new(kind: String, frontend: bool) -> Self {
        Self {
            kind,
            frontend,
            id: None,
            acceptors: Vec::new(),
            components: Vec::new(),
            modules: Vec::new(),
            layers: Vec::new(),
            pipeline: Pipeline::default(),
            ordered: false,
            steps: StepList::new(),
            states: HashMap::new(),
            dictionary: Vec::new(),
            push_codes: false,
            serializer: Arc::new(JsonSerializer),
            codec: Arc::new(PomeloCodec),
            groups: Arc::new(MemoryGroups::new()),
            reporter: Arc::new(NoReporter),
            sources: Sources::default(),
            table: Table::new(settings::rows()),
            cluster: ClusterParts::default(),
        }
    }

    /// The id of this server; random if not given.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Adds a source of clients. A server may have several.
    pub fn acceptor(mut self, acceptor: impl Acceptor) -> Self {
        self.acceptors.push(Box::new(acceptor));
        self
    }

    /// Adds the handlers of a type with the attribute `#[handlers]`.
    ///
    /// An `Arc` of such a type will do, too.
    pub fn handlers(self, handlers: impl Handlers) -> Self {
        self.component(Arc::new(handlers).into_component())
    }

    /// Adds a component that was made with [`Component::builder`].
    pub fn component(mut self, component: Component) -> Self {
        self.components.push(component);
        self
    }

    /// Adds a module: something that starts and stops with the app, under a name of its own.
    ///
    /// Modules start in the order of registration, before components, and stop in reverse. Handlers find one by type with
    /// `State<T>` or [`App::module`], by name with [`App::module_named`].
    pub fn module<T: Lifecycle>(self, name: impl Into<Arc<str>>, module: T) -> Self {
        self.shared_module(name, Arc::new(module))
    }

    /// As [`module`](Self::module), before all that have been added so far.
    pub fn module_before<T: Lifecycle>(mut self, name: impl Into<Arc<str>>, module: T) -> Self {
        self.modules.insert(0, Module::new(name, Arc::new(module)));
        self
    }

    /// As [`module`](Self::module), for one that somebody else holds, too.
    pub fn shared_module<T: Lifecycle>(mut self, name: impl Into<Arc<str>>, module: Arc<T>) -> Self {
        self.modules.push(Module::new(name, module));
        self
    }

    /// Puts a layer around all handlers. The layer that is added first sees a request first.
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    /// Runs a function before each handler, inside of the layers and before the arguments are read. It sees the circumstances
    /// and the raw payload, and gives the request on, changed or not; an error answers in place of the handler.
    ///
    /// Before-functions run in the order of registration, each with what the one before it has returned. Once one has
    /// refused, nothing more runs: no other of them, no handler and no after-function.
    ///
    /// ```
    /// use pitaya_server::{Server, ServerBuilder};
    /// use pitaya_core::{Error, Request};
    ///
    /// let server = Server::frontend("game").before(async |request: Request| {
    ///     if request.body.len() > 1_000 { Err(Error::bad_request("too long")) } else { Ok(request) }
    /// });
    /// # let _: ServerBuilder = server;
    /// ```
    pub fn before<F, Fut>(mut self, function: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CoreResult<Request>> + Send + 'static,
    {
        self.pipeline.before(function);
        self
    }

    /// Runs a function after each handler, also when it, its arguments or the writing of its result have failed, or when it
    /// has panicked. What a layer refuses or gives up it does not see: layers are outside of it. It sees the circumstances
    /// as the before-functions have left them, and gives the reply on, changed or not: an answer may become an error, and an
    /// error an answer.
    ///
    /// After-functions run in the order of registration, each with what the one before it has returned.
    pub fn after<F, Fut>(mut self, function: F) -> Self
    where
        F: Fn(MessageParts, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        self.pipeline.after(function);
        self
    }

    /// Runs the messages of each session strictly one after the other: the next waits for the end of the one before.
    pub fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// Runs a callback when a session is bound, before it can be found by its uid. An error refuses the bind.
    pub fn on_bind<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn(Session, Uid) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CoreResult<()>> + Send + 'static,
    {
        self.steps.on_bind(callback);
        self
    }

    /// Runs a callback when a session has been bound. An error undoes the bind.
    pub fn on_after_bind<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn(Session, Uid) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CoreResult<()>> + Send + 'static,
    {
        self.steps.on_after_bind(callback);
        self
    }

    /// Runs a callback for each session that closes, bound or not, after the session's own callbacks.
    pub fn on_close<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn(Session, CloseReason) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.steps.on_close(callback);
        self
    }

    /// Looks at each client's handshake before it is accepted (protocol.md 2.4). Validators run in the order of
    /// registration; `name` is for the logs.
    ///
    /// It may wait for others, as long as a step of a bind (`pitaya.session.steptimeout`) and within the handshake time-out,
    /// and may bind the session at once. A bind that a later validator makes void is undone, but has replaced an older
    /// session of the user by then. An error refuses the
    /// client: it gets a response with the code 400 and the error's code and text, and its connection closes.
    pub fn handshake_validator<F, Fut>(mut self, name: impl Into<Arc<str>>, validator: F) -> Self
    where
        F: Fn(Session, Arc<HandshakeData>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CoreResult<()>> + Send + 'static,
    {
        self.steps.validator(name, validator);
        self
    }

    /// Adds something that takes part in bind and close.
    pub fn step(mut self, step: impl SessionStep) -> Self {
        self.steps.push(step);
        self
    }

    /// Gives handlers a value that they take as `State<T>`.
    pub fn state<T: Send + Sync + 'static>(self, state: T) -> Self {
        self.shared_state(Arc::new(state))
    }

    /// As [`state`](Self::state), for a value that somebody else holds, too.
    pub fn shared_state<T: Send + Sync + 'static>(mut self, state: Arc<T>) -> Self {
        self.states.insert(TypeId::of::<T>(), state);
        self
    }

    /// The route dictionary: clients may write these routes as codes (protocol.md 3.1).
    pub fn dictionary<R: Into<String>>(mut self, entries: impl IntoIterator<Item = (R, u16)>) -> Self {
        self.dictionary.extend(entries.into_iter().map(|(route, code)| (route.into(), code)));
        self
    }

    /// Writes the routes of pushes as codes, too. Only if all clients can read them: libpitaya cannot (protocol.md 2.5).
    pub fn push_codes(mut self) -> Self {
        self.push_codes = true;
        self
    }

    /// What the handshake announces and how errors are written; JSON if not given.
    pub fn serializer(mut self, serializer: impl Serializer) -> Self {
        self.serializer = Arc::new(serializer);
        self
    }

    /// How packets lie in bytes; Pitaya's if not given.
    pub fn packet_codec(mut self, codec: impl PacketCodec) -> Self {
        self.codec = Arc::new(codec);
        self
    }

    /// Where groups are kept; in the memory of this process if not given.
    pub fn groups(mut self, store: impl GroupStore) -> Self {
        self.groups = Arc::new(store);
        self
    }

    /// Where counts go; nowhere if not given.
    pub fn reporter(mut self, reporter: impl Reporter) -> Self {
        self.reporter = Arc::new(reporter);
        self
    }

    /// Reads settings from a file: TOML, YAML or JSON, told apart by the extension (see [`config`](pitaya_core::config)).
    ///
    /// The file is read by [`build`](Self::build), and has to exist. A later file wins over an earlier one.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.file(path);
        self
    }

    /// Takes settings from variables, which win over files. Those of the process are
    /// [`config::environment()`](pitaya_core::config::environment); nothing is read that is not given here.
    pub fn environment<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<String>,
    {
        self.sources.environment(variables);
        self
    }

    /// Sets a setting, one of [`settings`] or of another part that has been added to the table. What is set in code wins
    /// over files and the environment.
    pub fn set<T: Value>(mut self, setting: &'static Setting<T>, value: T) -> Self {
        self.sources.set(setting, value);
        self
    }

    /// Sets a setting by any spelling of its name, as text.
    pub fn set_text(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.sources.set_text(name, value);
        self
    }

    /// Takes the defaults of another Pitaya for everything that is not set.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.sources.set_preset(preset);
        self
    }

    /// Adds settings of the application or of an adapter to the table.
    pub fn settings(mut self, rows: impl IntoIterator<Item = &'static dyn Row>) -> Self {
        self.table.extend(rows);
        self
    }

    /// Checks everything and makes the server.
    ///
    /// # Errors
    ///
    /// All problems at once.
    pub fn build(mut self) -> Result<Server, BuildError> {
        let mut problems = Vec::new();
        let config = self.table.resolve(std::mem::take(&mut self.sources));
        let config = config.map_err(|errors| problems.extend(errors.into_iter().map(Problem::Config)));
        let server = self.server_info(&mut problems);
        let dictionary = Dictionary::new(std::mem::take(&mut self.dictionary))
            .map_err(|error| problems.push(Problem::Dictionary(error)))
            .unwrap_or_default();
        match (self.frontend, self.acceptors.is_empty()) {
            (true, true) => problems.push(Problem::NoAcceptor),
            (false, false) => problems.push(Problem::AcceptorOnBackend),
            _ => {}
        }
        let peer_options = self.peer_options(config.as_ref().ok(), &mut problems);
        let parts = self.parts(&mut problems);
        let remotes = std::mem::take(&mut self.cluster.remotes);
        let tasks = Tasks::new();
        // A name that is wrong has been told; the routes are checked with another one.
        let Some(kind) = server.as_ref().map(|server| server.kind.clone()).or_else(|| "server".try_into().ok()) else {
            return Err(BuildError { problems });
        };
        let pipeline = Arc::new(std::mem::take(&mut self.pipeline));
        let options = RegistryOptions {
            server_type: &kind,
            layers: &self.layers,
            pipeline: &pipeline,
            ordered: self.ordered,
            tasks: &tasks,
            reporter: &self.reporter,
        };
        let registry = Registry::new(std::mem::take(&mut self.components), &options, &mut problems);
        self.check_needs(&registry, self.serializer.name(), &mut problems);
        let remotes = self.remote_registry(remotes, &options, &mut problems);
        let adapters = match (&self.cluster.wiring, &config) {
            (Some(wiring), Ok(config)) => {
                wiring.adapters(config).map_err(|error| problems.push(Problem::Cluster(error))).ok()
            }
            _ => None,
        };
        match (config, server) {
            (Ok(config), Some(server)) if problems.is_empty() => {
                let cluster = adapters.map(|adapters| (adapters, peer_options, remotes));
                self.assemble(Checked { server, config, registry, parts, dictionary, tasks, cluster })
            }
            _ => Err(BuildError { problems }),
        }
    }

    fn server_info(&self, problems: &mut Vec<Problem>) -> Option<ServerInfo> {
        let info = if self.frontend {
            ServerInfo::frontend(self.kind.as_str())
        } else {
            ServerInfo::backend(self.kind.as_str())
        };
        let info = info.map_err(|error| problems.push(Problem::Name(error)));
        let id = self.id.as_ref().map(ServerId::try_from).transpose();
        let id = id.map_err(|error| problems.push(Problem::Name(error)));
        let (mut info, id) = (info.ok()?, id.ok()?);
        if let Some(id) = id {
            info.id = id;
        }
        info.metadata.clone_from(&self.cluster.metadata);
        let (len, limit) = (info.to_json().len(), ServerInfo::MAX_JSON_LEN - OWN_METADATA);
        if len > limit {
            problems.push(Problem::Metadata { len, limit });
        }
        Some(info)
    }

    /// Collects what starts and stops with the app, and lets handlers find the modules by type.
    fn parts(&mut self, problems: &mut Vec<Problem>) -> Vec<Module> {
        let mut names = HashSet::new();
        for module in &self.modules {
            if !names.insert(module.name()) {
                problems.push(Problem::DuplicateModule { name: module.name().to_owned() });
            }
            let any = module.any();
            self.states.entry((*any).type_id()).or_insert(any);
        }
        let components =
            self.components.iter().chain(&self.cluster.remotes.components).filter_map(Component::lifecycle);
        self.modules.iter().chain(components).cloned().collect()
    }

    fn check_needs(&self, registry: &Registry, serializer: &'static str, problems: &mut Vec<Problem>) {
        for (route, needs) in registry.needs() {
            for format in needs.formats().iter().filter(|format| **format != serializer) {
                problems.push(Problem::Format { route: route.clone(), format, serializer });
            }
            for (_, name) in needs.states().iter().filter(|(id, _)| !self.states.contains_key(id)) {
                problems.push(Problem::State { route: route.clone(), name });
            }
        }
    }

    fn assemble(self, checked: Checked) -> Result<Server, BuildError> {
        let Checked { mut server, config, registry, parts, dictionary, tasks, cluster } = checked;
        let config = Arc::new(config);
        let compression = if config.get(&settings::COMPRESSION) {
            Compression::Above { threshold: config.get(&settings::COMPRESSION_THRESHOLD).0 }
        } else {
            Compression::Off
        };
        let heartbeat = config.get(&settings::HEARTBEAT_INTERVAL);
        let dictionary = Arc::new(dictionary);
        let accepted = HandshakeResponse {
            code: HandshakeResponse::OK,
            heartbeat: Some(heartbeat),
            dictionary: (*dictionary).clone(),
            serializer: self.serializer.name().to_owned(),
            reason: None,
        };
        let handshake = HandshakeBodies::new(accepted, config.get(&settings::COMPRESSION))
            .map_err(|error| BuildError { problems: vec![Problem::Handshake(error.to_string())] })?;
        let push_dictionary = self.push_codes.then(|| Arc::clone(&dictionary));
        let unique = config.get(&settings::SESSION_UNIQUE).then(|| Arc::new(Unique::default()));
        let mut steps = self.steps;
        let peers = cluster.as_ref().map(|_| Arc::default());
        if let Some(peers) = &peers
            && self.frontend
        {
            steps.push(ClusterStep { unique: unique.clone(), peers: Arc::clone(peers) });
        }
        let cluster = cluster.map(|(adapters, options, remotes)| {
            server.metadata.insert(ServerInfo::OURS.to_owned(), "1".to_owned());
            server.metadata.insert(ServerInfo::INSTANCE.to_owned(), ServerInfo::new_instance());
            server.metadata.insert(ServerInfo::HANDLERS.to_owned(), (!registry.is_empty()).to_string());
            let servers = Servers::new(server.clone(), adapters.discovery.ignored());
            let context = ClusterContext::new(servers, Arc::clone(&config), Tasks::new(), Arc::clone(&self.reporter));
            let handle = Peers::new(context, adapters, options);
            if let Some(peers) = &peers {
                // It has just been made.
                drop(peers.set(handle.clone()));
            }
            Arc::new(Cluster::new(handle, remotes, unique))
        });
        let forwarder = cluster.as_ref().filter(|_| self.frontend);
        let forwarder = forwarder.map(|cluster| Forwarder::new(cluster.peers.clone(), self.cluster.forward_layers));
        let sessions = SessionPool::new(PoolOptions {
            steps,
            step_timeout: config.get(&settings::SESSION_STEP_TIMEOUT),
            format: PushFormat::new(Arc::clone(&self.serializer), compression, push_dictionary),
            groups: self.groups,
            tasks: tasks.clone(),
        });
        let app = App::new(AppParts {
            server,
            sessions: sessions.clone(),
            reporter: Arc::clone(&self.reporter),
            config: Arc::clone(&config),
            tasks: tasks.clone(),
            states: self.states,
            modules: self.modules,
            peers: cluster.as_ref().map(|cluster| cluster.peers.clone()),
        });
        let engine = Engine {
            limits: Limits {
                handshake: config.get(&settings::HANDSHAKE_MAX_SIZE).0,
                packet: config.get(&settings::PACKET_MAX_SIZE).0,
            },
            timeouts: Timeouts {
                handshake: config.get(&settings::HANDSHAKE_TIMEOUT),
                partial_packet: config.get(&settings::PACKET_TIMEOUT),
                heartbeat,
                // Go closes between two and three intervals, at a tick of its own; we close exactly in between.
                idle: heartbeat * 5 / 2,
            },
            options: Options {
                outbox_messages: config.get(&settings::OUTBOX_MESSAGES),
                outbox_bytes: config.get(&settings::OUTBOX_BYTES).0,
                write_timeout: config.get(&settings::WRITE_TIMEOUT),
                unfinished: config.get(&settings::SESSION_UNFINISHED),
                max_inflated: config.get(&settings::MESSAGE_MAX_INFLATED).0,
                drain: config.get(&settings::DRAIN_ENABLED),
                drain_timeout: config.get(&settings::DRAIN_TIMEOUT),
                drain_period: config.get(&settings::DRAIN_PERIOD),
                shutdown_kick: config.get(&settings::SHUTDOWN_KICK),
                shutdown_grace: config.get(&settings::SHUTDOWN_GRACE),
            },
            dispatch: Dispatch::new(
                config.get(&settings::DISPATCH_CONCURRENCY),
                config.get(&settings::LOCAL_BUFFER),
                config.get(&settings::REMOTE_BUFFER),
            ),
            parts: Parts::new(
                parts,
                config.get(&settings::MODULE_START_TIMEOUT),
                config.get(&settings::MODULE_STOP_TIMEOUT),
            ),
            work: tasks.part(),
            metrics: Metrics::new(&*self.reporter),
            measures: self.reporter.is_enabled(),
            places: Places::new(&registry, &app),
            remote_places: cluster.as_ref().map(|cluster| Places::new(&cluster.remotes, &app)),
            app,
            cluster,
            forwarder,
            sessions,
            registry,
            codec: self.codec,
            serializer: self.serializer,
            dictionary,
            compression,
            handshake,
            stop_accepting: CancellationToken::new(),
            closing: CancellationToken::new(),
            hurry: CancellationToken::new(),
            cut_off: AtomicUsize::new(0),
        };
        Ok(Server::new(engine, self.acceptors))
    }
}

/// What a server is made of, when nothing is wrong with it.
struct Checked {
    server: ServerInfo,
    config: Config,
    registry: Registry,
    parts: Vec<Module>,
    dictionary: Dictionary,
    tasks: Tasks,
    /// The adapters, the rules, and the remotes.
    cluster: Option<(Adapters, PeerOptions, Registry)>,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("kind", &self.kind)
            .field("components", &self.components)
            .finish_non_exhaustive()
    }
}
