//! The arguments of handlers.
//!
//! An argument is any type that implements [`FromRequest`]. Those that only look ([`Session`], [`App`], [`Context`],
//! [`Route`], [`State`], `Arc<Component>`) may stand anywhere and repeatedly; one that consumes the payload
//! ([`Json`](crate::Json), [`Bytes`]) must be the last. `Option<T>` is `None` where there is nothing to extract.
//!
//! ```
//! use std::sync::Arc;
//! use pitaya_core::{Error, FromRequest, Request, Result, Uid, extract::TakesNothing};
//!
//! /// The logged-in user: a handler that takes it is never called without one.
//! struct User(Uid);
//!
//! impl<C: Send + Sync> FromRequest<C> for User {
//!     type Takes = TakesNothing;
//!
//!     async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
//!         let uid = request.parts.session()?.uid().map_err(|_| Error::new("AUTH-001", "log in first"))?;
//!         Ok(User(uid))
//!     }
//! }
//! ```

use std::{future::Future, ops::Deref, sync::Arc};

use bytes::Bytes;

use crate::{App, Context, Error, Needs, Request, Result, Route, Session};

/// A type that a handler can take as an argument. `C` is the component whose handler it is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler argument",
    label = "not an extractor",
    note = "an argument implements `FromRequest`: `Session`, `App`, `Context`, `Route`, `State<T>`, and as the last one `Json<T>` or `Bytes`"
)]
pub trait FromRequest<C>: Sized {
    /// [`TakesNothing`] or [`TakesPayload`]: only the last argument may take the payload.
    type Takes;

    /// Records what the app must have for this argument, so that `build()` can refuse an app without it.
    fn needs(_needs: &mut Needs) {}

    /// Whether there is nothing to extract; `Option<Self>` is `None` then.
    fn is_absent(_request: &Request) -> bool {
        false
    }

    /// Extracts the argument.
    ///
    /// # Errors
    ///
    /// What the client gets instead of the handler's answer.
    fn from_request(request: &mut Request, component: &Arc<C>) -> impl Future<Output = Result<Self>> + Send;
}

/// The argument only looks at the request.
#[derive(Debug, Clone, Copy)]
pub struct TakesNothing;

/// The argument consumes the payload.
#[derive(Debug, Clone, Copy)]
pub struct TakesPayload;

/// Holds for arguments after which others may follow.
#[diagnostic::on_unimplemented(
    message = "`{T}` consumes the payload, so it must be the last argument",
    label = "move this argument to the end"
)]
pub trait MayPrecede<T> {}

impl<T> MayPrecede<T> for TakesNothing {}

impl<C: Send + Sync> FromRequest<C> for Session {
    type Takes = TakesNothing;

    fn is_absent(request: &Request) -> bool {
        request.parts.context.session().is_none()
    }

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        request.parts.session().cloned()
    }
}

impl<C: Send + Sync> FromRequest<C> for App {
    type Takes = TakesNothing;

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        Ok(request.parts.app.clone())
    }
}

impl<C: Send + Sync> FromRequest<C> for Context {
    type Takes = TakesNothing;

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        Ok(request.parts.context.clone())
    }
}

impl<C: Send + Sync> FromRequest<C> for Route {
    type Takes = TakesNothing;

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        Ok(request.parts.route.clone())
    }
}

/// The component itself: `async fn join(self: Arc<Self>, ..)` is a handler.
impl<C: Send + Sync> FromRequest<C> for Arc<C> {
    type Takes = TakesNothing;

    async fn from_request(_request: &mut Request, component: &Self) -> Result<Self> {
        Ok(Self::clone(component))
    }
}

/// The payload as it is.
impl<C: Send + Sync> FromRequest<C> for Bytes {
    type Takes = TakesPayload;

    fn is_absent(request: &Request) -> bool {
        request.body.is_empty()
    }

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        Ok(std::mem::take(&mut request.body))
    }
}

/// Something that the app holds for its handlers: a database pool, a configuration of the game.
///
/// Registered with `.state(value)` on the builder; `build()` refuses an app whose handlers ask for a state that it does
/// not hold.
#[derive(Debug)]
pub struct State<T>(pub Arc<T>);

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T, C> FromRequest<C> for State<T>
where
    T: Send + Sync + 'static,
    C: Send + Sync,
{
    type Takes = TakesNothing;

    fn needs(needs: &mut Needs) {
        needs.state::<T>();
    }

    fn is_absent(request: &Request) -> bool {
        request.parts.app.state::<T>().is_none()
    }

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        let state = request.parts.app.state::<T>().map(State);
        state.ok_or_else(|| Error::internal(format!("the app holds no {}", std::any::type_name::<T>())))
    }
}

impl<T, C> FromRequest<C> for Option<T>
where
    T: FromRequest<C>,
    C: Send + Sync,
{
    type Takes = T::Takes;

    fn needs(needs: &mut Needs) {
        // A state that may be missing is not needed; a payload that may be missing still has its format.
        let mut inner = Needs::default();
        T::needs(&mut inner);
        inner.formats().iter().for_each(|format| needs.format(format));
    }

    async fn from_request(request: &mut Request, component: &Arc<C>) -> Result<Self> {
        if T::is_absent(request) {
            return Ok(None);
        }
        T::from_request(request, component).await.map(Some)
    }
}
