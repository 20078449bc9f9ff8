//! One call of etcd, on one connection.

use http::uri::PathAndQuery;
use prost::Message;
use tonic::{Request, client::Grpc, codec::Streaming, metadata::MetadataValue, transport::Channel};
use tonic_prost::ProstCodec;

use super::{EtcdError, endpoints::Token};

pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const PUT: &str = "/etcdserverpb.KV/Put";
pub(super) const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub(super) const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
pub(super) const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(super) const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// The longest answer that is read. Lists are read in pages.
const MAX_ANSWER_LEN: usize = 64 * 1024 * 1024;

/// Sends one message and waits for one. Also for methods that are streams of both: etcd answers each message with one.
pub(super) async fn one<Q, A>(
    channel: &Channel,
    endpoint: &str,
    token: Option<&Token>,
    method: &'static str,
    message: Q,
) -> Result<A, EtcdError>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let failed = |status| EtcdError::of(endpoint, &status);
    let mut grpc = ready(channel, endpoint).await?;
    let answer = grpc.unary(request(message, token), path(method), ProstCodec::default()).await;
    answer.map(tonic::Response::into_inner).map_err(failed)
}

/// Opens a stream with its first message; the way to etcd stays open as long as the stream is.
pub(super) async fn stream<Q, A>(
    channel: &Channel,
    endpoint: &str,
    token: Option<&Token>,
    method: &'static str,
    message: Q,
) -> Result<Streaming<A>, EtcdError>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    use futures_util::{StreamExt as _, stream};
    let failed = |status| EtcdError::of(endpoint, &status);
    let mut grpc = ready(channel, endpoint).await?;
    let messages = stream::iter([message]).chain(stream::pending());
    let answers = grpc.streaming(request(messages, token), path(method), ProstCodec::default()).await;
    answers.map(tonic::Response::into_inner).map_err(failed)
}

async fn ready(channel: &Channel, endpoint: &str) -> Result<Grpc<Channel>, EtcdError> {
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MAX_ANSWER_LEN);
    let ready = grpc.ready().await;
    ready.map_err(|error| EtcdError::of(endpoint, &tonic::Status::from_error(error.into())))?;
    Ok(grpc)
}

fn request<T>(message: T, token: Option<&Token>) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    // A member that has lost its leader ends our streams instead of keeping silent.
    metadata.insert("hasleader", MetadataValue::from_static("true"));
    if let Some(token) = token {
        metadata.insert("token", token.clone());
    }
    request
}

fn path(method: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(method)
}
