//! The vectors of protocol.md 5.4, both ways.

use super::*;

/// Bytes as the contract writes them: hexadecimal, with spaces.
fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[track_caller]
fn both_ways<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M, encoded: &str) {
    let encoded = hex(encoded);
    assert_eq!(message.encode_to_vec(), encoded);
    assert_eq!(&M::decode(encoded).unwrap(), message);
}

#[test]
fn small_messages_are_the_vectors() {
    let push = Push { route: "onMessage".into(), uid: "u1".into(), data: "{\"a\":1}".into() };
    both_ways(&push, "0a096f6e4d657373616765 12027531 1a077b2261223a317d");
    both_ways(&KickMsg { user_id: "u1".into() }, "0a027531");
    both_ways(&KickAnswer { kicked: true }, "0801");
    both_ways(&KickAnswer { kicked: false }, "");
    both_ways(&BindMsg { uid: "u1".into(), fid: "c1".into() }, "0a027531 12026331");
    both_ways(&Session { id: 7, uid: "u1".into(), data: Bytes::new() }, "0807 12027531");
    let data = "{\"ipversion\":\"ipv4\",\"lvl\":3}".into();
    both_ways(
        &Session { id: 7, uid: "u1".into(), data },
        "0807 12027531 1a1c 7b22697076657273696f6e223a2269707634222c226c766c223a337d",
    );
}

#[test]
fn responses_are_the_vectors() {
    both_ways(&Response::of("ack"), "0a0361636b");
    both_ways(&Response::of(Response::of("ack").encode_to_vec()), "0a05 0a0361636b");
    both_ways(&Response::of(KickAnswer { kicked: true }.encode_to_vec()), "0a02 0801");
    both_ways(&Response::default(), "");
    let not_found = CoreError::new("PIT-404", "route not found").with("route", "room.nope");
    both_ways(
        &Error::from(&not_found),
        "0a075049542d343034 120f726f757465206e6f7420666f756e64 1a120a05726f7574651209726f6f6d2e6e6f7065",
    );
    both_ways(
        &Response::failed(&CoreError::plain("session not found")),
        "121c 0a075049542d303030 121173657373696f6e206e6f7420666f756e64",
    );
    both_ways(
        &Response::failed(&CoreError::new("PIT-500", "no context found")),
        "121b 0a075049542d353030 12106e6f20636f6e7465787420666f756e64",
    );
}

#[test]
fn requests_are_the_vectors() {
    let of_client = Request {
        r#type: RpcType::Sys.into(),
        session: Some(Session { id: 7, uid: "u1".into(), data: "{\"ipversion\":\"ipv4\"}".into() }),
        msg: Some(Msg { id: 3, route: "room.room.join".into(), data: "{}".into(), ..Msg::default() }),
        frontend_id: "c1".into(),
        metadata: "{\"peer.id\":\"c1\",\"peer.service\":\"connector\",\"req-route\":\"room.room.join\",\
                   \"req-start-time\":1588888888000000000,\"reqTimeout\":\"5s\",\"request.id\":\"bzDPLU33w6Z0lVJSdn0ulk\"}"
            .into(),
    };
    both_ways(
        &of_client,
        "121c 0807 12027531 1a14 7b22697076657273696f6e223a2269707634227d
         1a16 0803 120e726f6f6d2e726f6f6d2e6a6f696e 1a027b7d
         2202 6331
         2aa501 7b22706565722e6964223a226331222c22706565722e73657276696365223a22636f6e6e6563746f72222c227265712d726f757465223a22726f6f6d2e726f6f6d2e6a6f696e222c227265712d73746172742d74696d65223a313538383838383838383030303030303030302c2272657154696d656f7574223a223573222c22726571756573742e6964223a22627a44504c55333377365a306c564a53646e30756c6b227d",
    );
    let notify = Request {
        session: Some(Session { id: 7, ..Session::default() }),
        msg: Some(Msg {
            route: "room.room.msg".into(),
            data: "hi".into(),
            r#type: MsgType::Notify.into(),
            ..Msg::default()
        }),
        frontend_id: "c1".into(),
        metadata: "{}".into(),
        ..Request::default()
    };
    both_ways(&notify, "1202 0807 1a15 120d726f6f6d2e726f6f6d2e6d7367 1a026869 2801 22026331 2a027b7d");
    let of_server = Request {
        r#type: RpcType::User.into(),
        msg: Some(Msg { route: "room.room.rpc".into(), data: b"\x0a\x02hi"[..].into(), ..Msg::default() }),
        metadata: "{\"peer.id\":\"r1\",\"peer.service\":\"game\",\"reqTimeout\":\"5s\"}".into(),
        ..Request::default()
    };
    both_ways(
        &of_server,
        "0801 1a15 120d726f6f6d2e726f6f6d2e727063 1a040a026869 2a38 7b22706565722e6964223a227231222c22706565722e73657276696365223a2267616d65222c2272657154696d656f7574223a223573227d",
    );
}

#[test]
fn an_error_keeps_code_text_and_metadata_and_gets_a_code_if_it_has_none() {
    let error = CoreError::new("ROOM-42", "no gold").with("missing", 3);
    let back = CoreError::from(Error::from(&error));
    assert_eq!((back.code(), back.message(), back.metadata()), ("ROOM-42", "no gold", error.metadata()));
    let without = Response { error: Some(Error { msg: "x".into(), ..Error::default() }), ..Response::default() };
    assert_eq!(without.into_result().unwrap_err().code(), "PIT-000");
    assert_eq!(Response::of("x").into_result().unwrap(), "x");
}
