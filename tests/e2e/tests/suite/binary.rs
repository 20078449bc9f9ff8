//! The command line of the program.

use crate::world::{binary, said};

#[tokio::test]
async fn grpc_is_refused_with_a_reason() {
    let (success, text) = said(binary(&["-type", "game", "-frontend=false", "-grpc=true"]).spawn().unwrap()).await;
    assert!(!success);
    assert!(text.contains("there is no gRPC adapter yet"), "{text}");
}

#[tokio::test]
async fn a_flag_that_go_does_not_have_is_refused() {
    let (success, text) = said(binary(&["-kind", "game"]).spawn().unwrap()).await;
    assert!(!success);
    assert!(text.contains("\"-kind\" is no flag") && text.contains("[-sdprefix PREFIX]"), "{text}");
}
