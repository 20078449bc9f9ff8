//! The arguments of handlers.
//!
//! An argument is any type that implements [`FromRequest`]. Those that only look ([`Session`], [`App`], [`Context`],
//! [`Route`], [`State`], [`Extension`], `Arc<Component>`) may stand anywhere and repeatedly; one that consumes the payload
//! ([`Json`](crate::Json), [`Protobuf`](crate::Protobuf), [`Bytes`]) must be the last. `Option<T>` is `None` where there is
//! nothing to extract, and [`Valid<T>`](Valid) checks what the payload says.
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

mod valid;

use std::{any::type_name, future::Future, ops::Deref, sync::Arc};

use bytes::Bytes;

use crate::{App, Context, Error, Needs, Request, Result, Route, Session, code};
pub use valid::STRUCT_VALIDATION;
#[cfg(feature = "validate")]
pub use valid::Valid;

/// A type that a handler can take as an argument. `C` is the component whose handler it is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler argument",
    label = "not an extractor",
    note = "an argument implements `FromRequest`: `Session`, `App`, `Context`, `Route`, `State<T>`, `Extension<T>`, and as the last one `Json<T>`, `Protobuf<T>` or `Bytes`"
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

    fn needs(needs: &mut Needs) {
        needs.session();
    }

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
        let (context, app, route) = (&request.parts.context, &request.parts.app, &request.parts.route);
        // A call of another server says in its metadata what it belongs to.
        let told = context.metadata().is_some() || app.peers().is_none();
        Ok(if told { context.clone() } else { context.clone().with_route(route) })
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
        state.ok_or_else(|| Error::internal(format!("the app holds no {}", type_name::<T>())))
    }
}

/// Something that a hook has left in the [`Context`] of the message: who the user is, a clock, a transaction.
///
/// A handler whose message has none answers with an error that names the type; `Option<Extension<T>>` is `None` then.
///
/// ```
/// use pitaya_core::{Error, Json, Next, Request, extract::Extension, from_fn};
///
/// struct Player {
///     level: u32,
/// }
///
/// let known = from_fn(|mut request: Request, next: Next| async move {
///     request.parts.context.insert(Player { level: 7 });
///     next.run(request).await
/// });
///
/// async fn level(player: Extension<Player>) -> Json<u32> {
///     Json(player.level)
/// }
/// # let _ = (known, level);
/// ```
#[derive(Debug)]
pub struct Extension<T>(pub Arc<T>);

impl<T> Clone for Extension<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Extension<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T, C> FromRequest<C> for Extension<T>
where
    T: Send + Sync + 'static,
    C: Send + Sync,
{
    type Takes = TakesNothing;

    fn is_absent(request: &Request) -> bool {
        request.parts.context.get::<T>().is_none()
    }

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        let missing = || Error::new(code::INTERNAL, format!("no hook has left a {}", type_name::<T>()));
        request.parts.context.get().map(Self).ok_or_else(missing)
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
