use super::*;
use crate::dictionary::DictionaryError;

fn response(dictionary: Dictionary) -> HandshakeResponse {
    HandshakeResponse {
        code: HandshakeResponse::OK,
        heartbeat: Some(Duration::from_secs(30)),
        dictionary,
        serializer: String::from("json"),
        reason: None,
    }
}

fn parse(json: &str) -> Result<HandshakeResponse, HandshakeError> {
    HandshakeResponse::parse(json.as_bytes(), 1 << 20)
}

#[test]
fn intervals_must_be_whole_seconds() {
    let check = |heartbeat: Option<Duration>, good: bool| {
        let response = HandshakeResponse { heartbeat, ..response(Dictionary::default()) };
        match response.encode(true) {
            Ok(_) => assert!(good, "{heartbeat:?}"),
            Err(error) => {
                assert!(!good, "{heartbeat:?}");
                assert!(matches!(error, HandshakeError::Heartbeat(given) if given == heartbeat));
            }
        }
    };
    check(None, false);
    check(Some(Duration::ZERO), false);
    check(Some(Duration::from_millis(1500)), false);
    check(Some(Duration::from_nanos(1)), false);
    check(Some(Duration::from_secs(1)), true);
    check(Some(LONGEST_HEARTBEAT), true);
    check(Some(Duration::from_secs(1 << 31)), false);
    check(Some(Duration::MAX), false);
}

#[test]
fn odd_intervals_of_other_servers_do_not_panic() {
    let check = |text: &str, expected| {
        let json = format!(r#"{{"code":200,"sys":{{"heartbeat":{text}}}}}"#);
        assert_eq!(parse(&json).unwrap().heartbeat, expected, "{text}");
    };
    check("30", Some(Duration::from_secs(30)));
    check("1.5", Some(Duration::from_millis(1500)));
    check("3e1", Some(Duration::from_secs(30)));
    for none in ["0", "-0.0", "-1", "-1e300", "null", "0.0009", "1e-300"] {
        check(none, None);
    }
    for longest in ["2147483647", "1e300", "18446744073709551615", "99999999999999999999999"] {
        check(longest, Some(LONGEST_HEARTBEAT));
    }
    assert!(parse(r#"{"code":200,"sys":{"heartbeat":1e999}}"#).is_err());
    assert!(parse(r#"{"code":200,"sys":{"heartbeat":"30"}}"#).is_err());
}

#[test]
fn missing_things_have_defaults() {
    for json in [
        r#"{"code":500}"#,
        r#"{"code":500,"sys":null}"#,
        r#"{"code":500,"sys":{},"user":{}}"#,
        r#"{"code":500,"sys":{"dict":null,"serializer":null,"useDict":true}}"#,
    ] {
        let parsed = parse(json).unwrap();
        assert_eq!((parsed.code, parsed.heartbeat), (500, None));
        assert!(parsed.dictionary.is_empty());
        assert_eq!(parsed.serializer, "json");
    }
    for bad in ["", "{}", "[]", "null", r#"{"code":"200"}"#, r#"{"code":70000}"#, r#"{"code":200}x"#] {
        assert!(matches!(parse(bad), Err(HandshakeError::Json(_))), "{bad}");
    }
}

#[test]
fn bad_dictionaries_are_errors() {
    let parse = |dict: &str| parse(&format!(r#"{{"code":200,"sys":{{"dict":{dict}}}}}"#));
    for duplicate in [r#"{"a.b":1,"a.b":2}"#, r#"{"a.b":1,"a.b ":1}"#] {
        let error = parse(duplicate).unwrap_err();
        let HandshakeError::Dictionary(error) = error else {
            panic!("{error:?}");
        };
        assert!(matches!(error, DictionaryError::DuplicateRoute { .. }));
    }
    for bad in [r#"{"a.b":1,"c.d":1}"#, r#"{"":1}"#, r#"{"a.b":0}"#] {
        assert!(matches!(parse(bad), Err(HandshakeError::Dictionary(_))), "{bad}");
    }
    for bad in [r#"{"a.b":65536}"#, r#"{"a.b":-1}"#, r#"{"a.b":"1"}"#, "[]", "7"] {
        assert!(matches!(parse(bad), Err(HandshakeError::Json(_))), "{bad}");
    }
}

#[test]
fn the_packet_never_ends_with_a_read_step() {
    // Serializer names of all lengths move the plain length over several steps.
    for len in 0..2200 {
        let response = HandshakeResponse { serializer: "j".repeat(len), ..response(Dictionary::default()) };
        for compression in [false, true] {
            let body = response.encode(compression).unwrap();
            assert_ne!((HEADER_LEN + body.len()) % 1024, 0, "{len}");
            assert_eq!(HandshakeResponse::parse(&body, 1 << 20).unwrap(), response);
        }
    }
}

#[test]
fn deflated_packets_avoid_the_read_step_too() {
    // Names that hardly compress, so that each entry moves the deflated length by a few bytes.
    let mut state = 1_u64;
    let mut entries = Vec::new();
    let mut deflated_lengths = Vec::new();
    for code in 1..600 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        entries.push((format!("r.{state:x}"), code));
        let response = response(Dictionary::new(entries.clone()).unwrap());
        let body = response.encode(true).unwrap();
        assert!(looks_compressed(&body) || code < 20, "{code}");
        assert_ne!((HEADER_LEN + body.len()) % 1024, 0);
        assert_eq!(HandshakeResponse::parse(&body, 1 << 20).unwrap(), response);
        deflated_lengths.push(body.len());
    }
    assert!(deflated_lengths.iter().max() > Some(&4096));

    // The padding itself, on a text whose deflated length is a step less the header.
    let (text, before) = (0..)
        .map(|extra| {
            let mut text: Vec<u8> = Vec::new();
            let mut state = 7_u32;
            while text.len() < 1000 + extra {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                text.push(b'a' + (state >> 28) as u8);
            }
            let deflated = Compression::Above { threshold: 0 }.apply(&text).unwrap();
            (text, deflated.len())
        })
        .find(|(_, len)| HEADER_LEN + len == 1024)
        .unwrap();
    let padded = avoid_read_step(text.clone(), Compression::Above { threshold: 0 });
    assert_ne!(padded.len(), before);
    assert_eq!(inflate(&padded, 4096).unwrap().trim_ascii_end(), text);
}

#[test]
fn inflating_is_bounded() {
    let response = HandshakeResponse { serializer: "j".repeat(5000), ..response(Dictionary::default()) };
    let body = response.encode(true).unwrap();
    assert!(HandshakeResponse::parse(&body, 6000).is_ok());
    assert!(matches!(HandshakeResponse::parse(&body, 5000), Err(HandshakeError::Inflate(_))));
}

#[test]
fn a_reason_lies_between_code_and_sys_and_is_read_back() {
    let reason = HandshakeReason { code: "AUTH-1".into(), msg: "the \"token\" is old".into() };
    let response = HandshakeResponse { code: 400, reason: Some(reason), ..response(Dictionary::default()) };
    let body = response.encode(false).unwrap();
    assert_eq!(
        String::from_utf8(body.clone()).unwrap(),
        r#"{"code":400,"error":{"code":"AUTH-1","msg":"the \"token\" is old"},"sys":{"dict":{},"heartbeat":30,"serializer":"json"}}"#
    );
    assert_eq!(HandshakeResponse::parse(&body, 1 << 20).unwrap(), response);
}
