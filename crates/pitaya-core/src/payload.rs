//! Payload types: what a handler takes, answers and pushes.

use std::{cell::Cell, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, FromRequest, Needs, Reply, Request, Result, extract::TakesPayload};

/// A value that can be pushed or broadcast.
pub trait IntoPayload: Send {
    /// The name of the serializer that this type belongs to; `None` for bytes that are sent as they are.
    const FORMAT: Option<&'static str>;

    /// Writes the value.
    ///
    /// # Errors
    ///
    /// The value cannot be written in this format.
    fn into_payload(self) -> Result<Bytes>;
}

/// A value that a handler may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned from a handler",
    label = "not a reply",
    note = "return `Json<T>`, `Protobuf<T>`, `Bytes`, `()` or a `Result` of these whose error converts into `pitaya::Error`"
)]
pub trait IntoReply {
    /// Records the format of the reply.
    fn needs(_needs: &mut Needs) {}

    /// Writes the value.
    ///
    /// # Errors
    ///
    /// The handler returned an error, or the value cannot be written.
    fn into_reply(self) -> Reply;
}

/// JSON, in and out.
///
/// As the last argument of a handler it reads the payload; as a result it is the reply; and it can be pushed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

const JSON: &str = "json";

thread_local! {
    /// Where JSON is written before its length is known: a payload then takes one allocation of just its size.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A scratch buffer that has grown beyond this is given back.
const SCRATCH_KEEP: usize = 64 * 1024;

impl<T, C> FromRequest<C> for Json<T>
where
    T: DeserializeOwned,
    C: Send + Sync,
{
    type Takes = TakesPayload;

    fn needs(needs: &mut Needs) {
        needs.format(JSON);
    }

    fn is_absent(request: &Request) -> bool {
        request.body.is_empty()
    }

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        let body = std::mem::take(&mut request.body);
        match serde_json::from_slice(&body) {
            Ok(value) => Ok(Self(value)),
            Err(error) => Err(bad_json(&body, &error)),
        }
    }
}

#[cold]
fn bad_json(body: &[u8], error: &serde_json::Error) -> Error {
    if body.is_empty() {
        // The text that clients know (protocol.md 3.3).
        Error::bad_request("unexpected end of JSON input")
    } else {
        Error::bad_request(format!("invalid JSON: {error}"))
    }
}

impl<T: Serialize + Send> IntoPayload for Json<T> {
    const FORMAT: Option<&'static str> = Some(JSON);

    fn into_payload(self) -> Result<Bytes> {
        // Taken out for the time of the writing, since a `Serialize` of the application may come here again.
        let mut scratch = SCRATCH.take();
        scratch.clear();
        let written = serde_json::to_writer(&mut scratch, &self.0);
        let payload = written.map(|()| Bytes::copy_from_slice(&scratch)).map_err(Error::internal);
        if scratch.capacity() <= SCRATCH_KEEP {
            SCRATCH.set(scratch);
        }
        payload
    }
}

impl<T: Serialize + Send> IntoReply for Json<T> {
    fn needs(needs: &mut Needs) {
        needs.format(JSON);
    }

    fn into_reply(self) -> Reply {
        self.into_payload()
    }
}

/// The rules of the value hold for the payload.
#[cfg(feature = "validate")]
impl<T: garde::Validate> garde::Validate for Json<T> {
    type Context = T::Context;

    fn validate_into(
        &self,
        context: &Self::Context,
        parent: &mut dyn FnMut() -> garde::Path,
        report: &mut garde::Report,
    ) {
        self.0.validate_into(context, parent, report);
    }
}

macro_rules! raw {
    ($($ty:ty),*) => { $(
        impl IntoPayload for $ty {
            const FORMAT: Option<&'static str> = None;

            fn into_payload(self) -> Result<Bytes> {
                Ok(self.into())
            }
        }

        impl IntoReply for $ty {
            fn into_reply(self) -> Reply {
                Ok(self.into())
            }
        }
    )* };
}

raw!(Bytes, Vec<u8>, &'static [u8]);

impl IntoReply for () {
    fn into_reply(self) -> Reply {
        Ok(Bytes::new())
    }
}

/// `None` is an error, as a nil result is in Pitaya (`reply must not be null`).
impl<T: IntoReply> IntoReply for Option<T> {
    fn needs(needs: &mut Needs) {
        T::needs(needs);
    }

    fn into_reply(self) -> Reply {
        self.map_or_else(|| Err(Error::plain("reply must not be null")), T::into_reply)
    }
}

impl<T: IntoReply, E: Into<Error>> IntoReply for Result<T, E> {
    fn needs(needs: &mut Needs) {
        T::needs(needs);
    }

    fn into_reply(self) -> Reply {
        self.map_err(Into::into).and_then(T::into_reply)
    }
}
