//! Functions and closures as handlers.

use std::future::Future;

use crate::{BoxFuture, FromRequest, IntoReply, Needs, Reply, Request, apart::Apart, extract::TakesNothing};

/// An async function whose arguments are extractors. `C` is the component that it is registered on.
///
/// You rarely name this trait: it is what [`ComponentBuilder::request`](crate::ComponentBuilder::request) accepts. The
/// attribute macro gives better compiler messages, since it can point at the argument that is wrong.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "a handler is an async function whose arguments are extractors, the payload last; `#[handlers]` on an impl block points at the argument that is wrong"
)]
pub trait Handler<C, Args>: Clone + Send + Sync + 'static {
    /// Records what the arguments and the result need.
    fn needs(needs: &mut Needs);

    /// Extracts the arguments and calls the function.
    fn call(self, request: Request, component: Apart<C>) -> BoxFuture<'static, Reply>;
}

impl<F, Fut, R, C> Handler<C, ()> for F
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
    R: IntoReply,
    C: Send + Sync + 'static,
{
    fn needs(needs: &mut Needs) {
        R::needs(needs);
    }

    fn call(self, _request: Request, _component: Apart<C>) -> BoxFuture<'static, Reply> {
        let handling = self();
        Box::pin(async move { handling.await.into_reply() })
    }
}

macro_rules! handler {
    ([$($part:ident),*], $last:ident) => {
        impl<F, Fut, R, C, $($part,)* $last> Handler<C, ($($part,)* $last,)> for F
        where
            F: Fn($($part,)* $last) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send,
            R: IntoReply,
            C: Send + Sync + 'static,
            $($part: FromRequest<C, Takes = TakesNothing> + Send,)*
            $last: FromRequest<C> + Send,
        {
            fn needs(needs: &mut Needs) {
                $($part::needs(needs);)*
                $last::needs(needs);
                R::needs(needs);
            }

            #[allow(non_snake_case, reason = "the type parameters double as variable names")]
            fn call(self, mut request: Request, component: Apart<C>) -> BoxFuture<'static, Reply> {
                Box::pin(async move {
                    $(let $part = $part::from_request(&mut request, &component).await?;)*
                    let $last = $last::from_request(&mut request, &component).await?;
                    drop(request);
                    self($($part,)* $last).await.into_reply()
                })
            }
        }
    };
}

handler!([], A1);
handler!([A1], A2);
handler!([A1, A2], A3);
handler!([A1, A2, A3], A4);
handler!([A1, A2, A3, A4], A5);
handler!([A1, A2, A3, A4, A5], A6);
handler!([A1, A2, A3, A4, A5, A6], A7);
handler!([A1, A2, A3, A4, A5, A6, A7], A8);
