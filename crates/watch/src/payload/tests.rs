//! What is taken and what is refused of what clients send.

use super::*;

fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    parse(Some(text.as_bytes()))
}

#[test]
fn bounds_are_kept_and_named() {
    let check = |result: Result<(), Failure>, word: &str| {
        let failure = result.unwrap_err();
        assert_eq!(failure.code, crate::failure::Code::InvalidPayload);
        assert!(failure.message.contains(word), "{}", failure.message);
    };
    let seek = |text| parsed::<Seek>(text).and_then(|seek| seek.target());
    assert_eq!(seek(r#"{"targetMediaTime":12.6}"#).unwrap(), 13);
    check(seek("{}").map(drop), "targetMediaTime");
    check(
        seek(r#"{"targetMediaTime":-1}"#).map(drop),
        "targetMediaTime",
    );
    check(
        seek(r#"{"targetMediaTime":1e300}"#).map(drop),
        "targetMediaTime",
    );
    check(seek("[]").map(drop), "expected struct Seek");
    check(seek(r#"{"targetMediaTime":"1"}"#).map(drop), "expected f64");
    let rate = |text| parsed::<Rate>(text).and_then(|rate| rate.milli());
    assert_eq!(rate(r#"{"rate":1.25}"#).unwrap(), 1250);
    check(rate(r#"{"rate":4.5}"#).map(drop), "rate");
    let chat = |text: &str| parsed::<Chat>(text).and_then(|chat| chat.content());
    assert_eq!(chat(r#"{"content":"a\nb"}"#).unwrap(), "a\nb");
    check(chat(r#"{"content":"  "}"#).map(drop), "content");
    let long = format!(r#"{{"content":"{}"}}"#, "x".repeat(1001));
    check(chat(&long).map(drop), "content");
    let key = parsed::<How>(r#"{"idempotencyKey":"a b"}"#).unwrap().key();
    check(key.map(drop), "idempotencyKey");
    let limit = parsed::<LoadHistory>(r#"{"limit":101}"#).unwrap().limit();
    check(limit.map(drop), "limit");
}

#[test]
fn how_a_command_is_carried_out_stands_beside_its_fields() {
    let text = r#"{"rate":2,"atServerTime":5.4,"expectedSequence":7,"idempotencyKey":"k"}"#;
    let rate: Rate = parsed(text).unwrap();
    assert_eq!(rate.how.wish().unwrap(), Some(5));
    assert_eq!(rate.how.expected(), Some(7));
    assert_eq!(rate.how.key().unwrap().as_deref(), Some("k"));
    let none: How = parse(None).unwrap();
    assert_eq!((none.wish().unwrap(), none.expected()), (None, None));
}

#[test]
fn a_room_needs_a_name_and_a_playable_source() {
    let room = |text: &str| parsed::<NewRoom>(text).and_then(NewRoom::check);
    let made = room(r#"{"name":" Movie ","source":"https://a.b/c.m3u8?x=1"}"#).unwrap();
    assert_eq!((made.name.as_str(), made.max_participants), ("Movie", 50));
    assert_eq!(made.source.unwrap().kind, "hls");
    for bad in [
        "{}",
        r#"{"name":""}"#,
        r#"{"name":"a","maxParticipants":0}"#,
        r#"{"name":"a","maxParticipants":251}"#,
        r#"{"name":"a","playbackControl":"nobody"}"#,
        r#"{"name":"a","source":"javascript:alert(1)"}"#,
        r#"{"name":"a","source":{"type":"film","url":"https://a"}}"#,
    ] {
        assert!(room(bad).is_err(), "{bad}");
    }
}

#[test]
fn only_signals_of_webrtc_pass() {
    let signal = |text: &str| {
        let signal: Signal = parsed(text).unwrap();
        signal.signal().map(|raw| raw.get().to_owned())
    };
    let offer = r#"{"targetId":"a","signal":{"type":"offer","sdp":"v=0"}}"#;
    assert_eq!(signal(offer).unwrap(), r#"{"type":"offer","sdp":"v=0"}"#);
    assert!(signal(r#"{"targetId":"a","signal":{"type":"x"}}"#).is_err());
    assert!(signal(r#"{"targetId":"a","signal":7}"#).is_err());
}
