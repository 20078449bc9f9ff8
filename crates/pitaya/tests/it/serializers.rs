//! Serializers: what the handshake says, and that arguments, results, pushes and errors are written in it.

mod formats;
mod msgpack;
mod protobuf;

use pitaya::Bytes;
use pitaya_client::{Client, RequestError};

use crate::support::refused;

/// The body of an error answer, as it came.
fn error_body(answer: Result<Bytes, RequestError>) -> Bytes {
    refused(answer).raw
}

/// What the handshake said.
fn announced(client: &Client) -> String {
    client.handshake().serializer.clone()
}
