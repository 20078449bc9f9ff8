//! The remotes `testremotesvc.*`, and the messages of both sides.

use pitaya::prelude::*;
use serde::{Deserialize, Serialize};

/// What the suite sends to handlers and remotes.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub(crate) struct TestRequest {
    #[prost(string, tag = "1")]
    pub(crate) msg: String,
}

/// What they answer.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub(crate) struct TestResponse {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) msg: String,
}

impl TestResponse {
    pub(crate) fn ok(msg: impl Into<String>) -> Self {
        Self { code: 200, msg: msg.into() }
    }
}

/// What other servers can call.
pub(crate) struct TestRemoteSvc;

#[remotes(name = "testremotesvc", rename_all = "lowercase")]
impl TestRemoteSvc {
    #[remote]
    async fn rpc_test_raw_ptr_returns_ptr(&self, Protobuf(request): Protobuf<TestRequest>) -> Protobuf<TestResponse> {
        Protobuf(TestResponse::ok(format!("got {}", request.msg)))
    }

    #[remote]
    async fn rpc_test_ptr_returns_ptr(&self, Protobuf(request): Protobuf<TestRequest>) -> Protobuf<TestResponse> {
        Protobuf(TestResponse::ok(format!("got {}", request.msg)))
    }

    #[remote]
    async fn rpc_test_returns_error(&self, _request: Protobuf<TestRequest>) -> Result<Protobuf<TestResponse>> {
        Err(Error::new("PIT-433", "test error").with("some", "meta"))
    }

    #[remote]
    async fn rpc_test_no_args(&self) -> Protobuf<TestResponse> {
        Protobuf(TestResponse::ok("got nothing"))
    }
}
