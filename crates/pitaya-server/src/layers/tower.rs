use std::{
    convert::Infallible,
    error::Error as StdError,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pitaya_core::{BoxFuture, Endpoint, Error, Layer, Reply, Request, Route};
use tower_service::Service;

type BoxError = Box<dyn StdError + Send + Sync>;
type MapError = dyn Fn(BoxError) -> Error + Send + Sync;

/// A layer of tower around handlers; see [`from_tower`].
#[derive(Clone)]
pub struct FromTower<L> {
    layer: L,
    map_error: Arc<MapError>,
}

/// Makes a layer of one of tower: of its stock layers, or of one that was written for it.
///
/// The layer gets one service for each route that it is put around, which answers a [`Request`] with a [`Reply`]. An error of
/// a handler is a reply, so it passes the layer as an answer; only what the layer itself fails with (a time-out of tower's,
/// say) is the service's error. That becomes an internal error (`PIT-500`, the cause in the log), unless it is an [`Error`]
/// already or [`map_error`](FromTower::map_error) says what it means.
///
/// ```
/// use std::time::Duration;
/// use pitaya_core::{Error, code};
/// use pitaya_server::{Server, layers::from_tower};
/// use tower::{limit::ConcurrencyLimitLayer, timeout::TimeoutLayer};
///
/// let server = Server::frontend("game")
///     .layer(from_tower(ConcurrencyLimitLayer::new(64)))
///     .layer(from_tower(TimeoutLayer::new(Duration::from_secs(5))).map_error(|_| Error::new(code::TIMEOUT, "too slow")));
/// # let _ = server;
/// ```
pub fn from_tower<L>(layer: L) -> FromTower<L>
where
    L: tower_layer::Layer<Rest>,
{
    FromTower { layer, map_error: Arc::new(coded) }
}

impl<L> FromTower<L> {
    /// Says what clients are told when the layer itself fails.
    #[must_use]
    pub fn map_error(self, map: impl Fn(BoxError) -> Error + Send + Sync + 'static) -> Self {
        Self { map_error: Arc::new(map), ..self }
    }
}

impl<L: fmt::Debug> fmt::Debug for FromTower<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FromTower").field(&self.layer).finish()
    }
}

fn coded(error: BoxError) -> Error {
    error.downcast().map_or_else(Error::internal, |error| *error)
}

impl<L> Layer for FromTower<L>
where
    L: tower_layer::Layer<Rest> + Send + Sync + 'static,
    L::Service: Service<Request, Response = Reply, Error: Into<BoxError>, Future: Send> + Clone + Send + Sync + 'static,
{
    fn layer(&self, _route: &Route, inner: Arc<dyn Endpoint>) -> Arc<dyn Endpoint> {
        Arc::new(Serving { service: self.layer.layer(Rest(inner)), map_error: Arc::clone(&self.map_error) })
    }
}

struct Serving<S> {
    service: S,
    map_error: Arc<MapError>,
}

impl<S> Endpoint for Serving<S>
where
    S: Service<Request, Response = Reply, Error: Into<BoxError>, Future: Send> + Clone + Send + Sync + 'static,
{
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        let (mut service, map_error) = (self.service.clone(), Arc::clone(&self.map_error));
        Box::pin(async move {
            // The clone that was ready is the one that is called.
            let answering = async {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(request).await
            };
            answering.await.unwrap_or_else(|error: S::Error| Err(map_error(error.into())))
        })
    }
}

/// The rest of the chain, as a layer of tower sees it: always ready, never failing.
#[derive(Debug, Clone)]
pub struct Rest(Arc<dyn Endpoint>);

impl Service<Request> for Rest {
    type Response = Reply;
    type Error = Infallible;
    type Future = RestFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> RestFuture {
        RestFuture(self.0.call(request))
    }
}

/// The reply of the [`Rest`] of the chain.
#[must_use = "the rest of the chain runs when this is awaited"]
pub struct RestFuture(BoxFuture<'static, Reply>);

impl Future for RestFuture {
    type Output = Result<Reply, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for RestFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RestFuture")
    }
}
