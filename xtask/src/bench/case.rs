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
}

impl Case {
    /// All cases, in the order of the tables.
    pub(crate) const ALL: [Self; 4] = [Self::Ready, Self::Suspends, Self::WsReady, Self::WsSuspends];

    /// The name in JSON and tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Suspends => "suspends",
            Self::WsReady => "ws-ready",
            Self::WsSuspends => "ws-suspends",
        }
    }

    /// How its packets travel.
    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::Ready | Self::Suspends => Transport::Tcp,
            Self::WsReady | Self::WsSuspends => Transport::WebSocket,
        }
    }

    /// The route that is asked for. The limit server gives every route the same answer, and never
    /// suspends: both cases are compared with the same work.
    pub(crate) fn route(self) -> &'static str {
        match self {
            Self::Ready | Self::WsReady => "bench.echo",
            Self::Suspends | Self::WsSuspends => "bench.suspends",
        }
    }

    /// What the upper end of the interval of the CPU ratio may be at most.
    pub(crate) fn goal(self) -> f64 {
        match self {
            Self::Ready | Self::WsReady => 1.25,
            Self::Suspends | Self::WsSuspends => 1.7,
        }
    }
}
