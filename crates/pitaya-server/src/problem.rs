//! What can be wrong with the description of a server.

use std::fmt;

use pitaya_core::{Error, NameError, Route, config::ConfigError};
use pitaya_protocol::DictionaryError;

/// Everything that is wrong with a description.
#[derive(Debug)]
pub struct BuildError {
    pub(crate) problems: Vec<Problem>,
}

impl BuildError {
    /// The problems, at least one.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problems[..] {
            [problem] => problem.fmt(f),
            problems => {
                write!(f, "{} problems:", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n- {problem}"))
            }
        }
    }
}

impl std::error::Error for BuildError {}

/// One thing that is wrong with a description.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A name is not valid.
    #[error(transparent)]
    Name(NameError),
    /// A setting is unknown or its value is not allowed.
    #[error(transparent)]
    Config(ConfigError),
    /// The route dictionary is contradictory.
    #[error("dictionary: {0}")]
    Dictionary(DictionaryError),
    /// A frontend that nobody can connect to.
    #[error("a frontend needs an acceptor")]
    NoAcceptor,
    /// A backend that clients could connect to.
    #[error("a backend takes no clients, and so no acceptor")]
    AcceptorOnBackend,
    /// What makes sense in a cluster only.
    #[error("{what} needs a cluster")]
    NoCluster {
        /// What was asked for.
        what: &'static str,
    },
    /// What the server tells the others of itself is longer than they read.
    #[error("the server as JSON, with its metadata, has {len} bytes; other servers read {limit}")]
    Metadata {
        /// Its length.
        len: usize,
        /// The longest that is read.
        limit: usize,
    },
    /// The adapters of the cluster cannot be made.
    #[error("cluster: {0}")]
    Cluster(Error),
    /// Two components have the same name.
    #[error("two components are named {name}")]
    DuplicateComponent {
        /// The name.
        name: String,
    },
    /// Two modules have the same name.
    #[error("two modules are named {name}")]
    DuplicateModule {
        /// The name.
        name: String,
    },
    /// Two handlers have the same route.
    #[error("two handlers have the route {route}")]
    DuplicateRoute {
        /// The route without server type.
        route: String,
    },
    /// A name of a component or a method is no part of a route.
    #[error("{route:?} is not a route: names are not empty and have no dots")]
    BadRoute {
        /// The route without server type.
        route: String,
    },
    /// A handler speaks another format than the app.
    #[error("{route} speaks {format}, but the app's serializer is {serializer}")]
    Format {
        /// The route of the handler.
        route: Route,
        /// What its argument or result is written in.
        format: &'static str,
        /// What the handshake would announce.
        serializer: &'static str,
    },
    /// A layer was given the name of a route that no handler has.
    #[error("a layer names the route {route}, which no handler has")]
    LayerRoute {
        /// The route as it was given to the layer.
        route: String,
    },
    /// A handler asks for a state that the app does not hold.
    #[error("{route} takes State<{name}>, which was not given with `state`")]
    State {
        /// The route of the handler.
        route: Route,
        /// The type.
        name: &'static str,
    },
    /// A remote takes a session, and calls of other servers have none.
    #[error("{route} takes a Session, which calls of other servers do not have; Option<Session> is None there")]
    Session {
        /// The route of the remote.
        route: Route,
    },
    /// The handshake response cannot be written.
    #[error("the handshake response cannot be written: {0}")]
    Handshake(String),
}
