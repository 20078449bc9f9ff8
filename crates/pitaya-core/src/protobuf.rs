//! Protocol buffers: payloads, and the serializer of apps that speak them.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::{
    Error, FromRequest, IntoPayload, IntoReply, Needs, Reply, Request, Result, Serializer, cluster::protos,
    extract::TakesPayload,
};

/// Protocol buffers, in and out: `T` is a message of the crate [`prost`].
///
/// As the last argument of a handler it reads the payload; as a result it is the reply; and it can be pushed. An empty
/// payload is the message whose fields have their defaults (protocol.md 3.3); for `Option<Protobuf<T>>` it is `None`.
///
/// The app needs the [`ProtobufSerializer`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Protobuf<T>(pub T);

const PROTOBUF: &str = "protobuf";

impl<T, C> FromRequest<C> for Protobuf<T>
where
    T: Message + Default,
    C: Send + Sync,
{
    type Takes = TakesPayload;

    fn needs(needs: &mut Needs) {
        needs.format(PROTOBUF);
    }

    fn is_absent(request: &Request) -> bool {
        request.body.is_empty()
    }

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        let body = std::mem::take(&mut request.body);
        let decoded = T::decode(body).map(Self);
        decoded.map_err(|error| Error::bad_request(format!("invalid protobuf: {error}")))
    }
}

impl<T: Message> IntoPayload for Protobuf<T> {
    const FORMAT: Option<&'static str> = Some(PROTOBUF);

    fn into_payload(self) -> Result<Bytes> {
        Ok(self.0.encode_to_vec().into())
    }
}

impl<T: Message> IntoReply for Protobuf<T> {
    fn needs(needs: &mut Needs) {
        needs.format(PROTOBUF);
    }

    fn into_reply(self) -> Reply {
        self.into_payload()
    }
}

/// The rules of the message hold for the payload.
#[cfg(feature = "validate")]
impl<T: garde::Validate> garde::Validate for Protobuf<T> {
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

/// Protocol buffers: the handshake announces `protobuf`, and errors are the message `protos.Error` (protocol.md 5.2).
#[derive(Debug, Clone, Copy, Default)]
pub struct ProtobufSerializer;

impl Serializer for ProtobufSerializer {
    fn name(&self) -> &'static str {
        PROTOBUF
    }

    fn encode_error(&self, error: &Error) -> Bytes {
        protos::Error::from(error).encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of protocol.md 5.4.
    #[test]
    fn the_error_body_is_the_one_of_the_contract() {
        let error = Error::not_found("route not found").with("route", "room.nope");
        let expected = b"\x0a\x07PIT-404\x12\x0froute not found\x1a\x12\x0a\x05route\x12\x09room.nope";
        assert_eq!(ProtobufSerializer.encode_error(&error), &expected[..]);
    }
}
