//! What is compared.

/// How packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    WebSocket,
}

impl Transport {
    /// The name on command lines and in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::WebSocket => "ws",
        }
    }
}

/// One comparison with the limit server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Ready,
    Suspends,
    WsReady,
    WsSuspends,
    /// A frontend and a backend, each a process, with a nats-server between them.
    Nats,
    /// The same in one process.
    InProcess,
}

impl Case {
    /// The cases of one server, in the order of the tables.
    pub(crate) const ALL: [Self; 4] = [Self::Ready, Self::Suspends, Self::WsReady, Self::WsSuspends];

    /// Those of a cluster.
    pub(crate) const CLUSTER: [Self; 2] = [Self::Nats, Self::InProcess];

    /// The name in JSON and tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Suspends => "suspends",
            Self::WsReady => "ws-ready",
            Self::WsSuspends => "ws-suspends",
            Self::Nats => "nats",
            Self::InProcess => "in-process",
        }
    }

    /// How its packets travel.
    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::Ready | Self::Suspends | Self::Nats | Self::InProcess => Transport::Tcp,
            Self::WsReady | Self::WsSuspends => Transport::WebSocket,
        }
    }

    /// The route that is asked for. The limit server gives every route the same answer, and never
    /// suspends: both cases are compared with the same work.
    pub(crate) fn route(self) -> &'static str {
        match self {
            Self::Ready | Self::WsReady => "bench.echo",
            Self::Suspends | Self::WsSuspends => "bench.suspends",
            Self::Nats | Self::InProcess => "back.bench.echo",
        }
    }

    /// What the upper end of the interval of the CPU ratio may be at most.
    pub(crate) fn goal(self) -> f64 {
        match self {
            Self::Ready | Self::WsReady => 1.25,
            Self::Suspends | Self::WsSuspends => 1.7,
            Self::Nats | Self::InProcess => 1.4,
        }
    }
}
