use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUTS: Timeouts = Timeouts {
    handshake: Duration::from_secs(10),
    partial_packet: Duration::from_secs(5),
    heartbeat: Duration::from_secs(30),
    idle: Duration::from_secs(75),
};

fn packet(kind: PacketKind) -> Packet {
    let body = Bytes::from_static(b"body");
    Packet { kind, body }
}

fn body() -> Bytes {
    Bytes::from_static(b"body")
}

/// A machine that has been brought to `state` without time passing.
fn machine(role: Role, state: State, now: Instant) -> Connection {
    let mut connection = Connection::new(role, TIMEOUTS, now);
    if state >= State::Accepting {
        connection.handle_packet(packet(PacketKind::Handshake), now).unwrap();
    }
    if state >= State::AwaitingAck {
        connection.accept_handshake(now).unwrap();
    }
    if state >= State::Working && role == Role::Server {
        connection.handle_packet(packet(PacketKind::HandshakeAck), now).unwrap();
    }
    if state == State::Closed {
        connection.close();
    }
    assert_eq!(connection.state(), state);
    connection
}

#[test]
fn every_packet_in_every_state() {
    use PacketKind::{Data, Handshake, HandshakeAck, Heartbeat, Kick};
    use State::{Accepting, AwaitingAck, Closed, Working};

    let now = Instant::now();
    let states = [State::Handshake, Accepting, AwaitingAck, Working, Closed];
    for role in [Role::Server, Role::Client] {
        for state in states {
            if role == Role::Client && state == AwaitingAck {
                continue;
            }
            for kind in [Handshake, HandshakeAck, Heartbeat, Data, Kick] {
                let expected = match (role, state, kind) {
                    (_, Closed, _) => None,
                    (_, State::Handshake, Handshake) => Some((Event::Handshake(body()), Accepting)),
                    (Role::Server, AwaitingAck, HandshakeAck) => Some((Event::Established, Working)),
                    (Role::Server, Working, HandshakeAck) => Some((Event::Ignored, Working)),
                    (Role::Client, _, HandshakeAck) => Some((Event::Ignored, state)),
                    (_, _, Heartbeat) => Some((Event::Heartbeat, state)),
                    (_, Working, Data) => Some((Event::Data(body()), Working)),
                    (Role::Server, _, Kick) => Some((Event::Ignored, state)),
                    (Role::Client, _, Kick) => Some((Event::Kicked(body()), Closed)),
                    _ => None,
                };
                let mut connection = machine(role, state, now);
                let got = connection.handle_packet(packet(kind), now);
                match expected {
                    Some((event, next)) => {
                        assert_eq!(got, Ok(event), "{role} {state} {kind}");
                        assert_eq!(connection.state(), next, "{role} {state} {kind}");
                    }
                    None => {
                        let error = ProtocolError::Unexpected { role, kind, state };
                        assert_eq!(got, Err(error));
                        assert_eq!(connection.state(), Closed);
                    }
                }
            }
        }
    }
}

#[test]
fn accepting_needs_a_handshake_and_happens_once() {
    let now = Instant::now();
    for role in [Role::Server, Role::Client] {
        for state in [State::Handshake, State::Working, State::Closed] {
            let mut connection = machine(role, state, now);
            let error = ProtocolError::NothingToAccept { state };
            assert_eq!(connection.accept_handshake(now), Err(error));
            assert_eq!(connection.state(), state);
        }
        let mut connection = machine(role, State::Accepting, now);
        connection.refuse_handshake();
        assert_eq!(connection.state(), State::Closed);
        assert!(connection.accept_handshake(now).is_err());
    }
}

#[test]
fn big_packets_only_while_working() {
    let limits = Limits { handshake: 1, packet: 2 };
    let now = Instant::now();
    for state in [State::Handshake, State::Accepting, State::AwaitingAck] {
        assert_eq!(machine(Role::Server, state, now).max_body(&limits), 1);
    }
    assert_eq!(machine(Role::Server, State::Working, now).max_body(&limits), 2);
}

#[test]
fn the_handshake_deadline_counts_from_the_opening() {
    let start = Instant::now();
    for state in [State::Handshake, State::Accepting, State::AwaitingAck] {
        let mut connection = machine(Role::Server, state, start);
        // Neither activity nor a pause moves it.
        connection.handle_packet(packet(PacketKind::Heartbeat), start + 9 * SECOND).unwrap();
        connection.pause(start + 9 * SECOND);
        let end = start + 10 * SECOND;
        assert_eq!(connection.deadline(), Some(end), "{state}");
        assert_eq!(connection.handle_timeout(end - SECOND), None);
        let action = TimeoutAction::Close(CloseReason::HandshakeTimeout);
        assert_eq!(connection.handle_timeout(end), Some(action));
        assert_eq!(connection.state(), State::Closed);
        assert_eq!((connection.deadline(), connection.handle_timeout(end)), (None, None));
    }
}

#[test]
fn heartbeats_start_with_the_acceptance() {
    let start = Instant::now();
    for role in [Role::Server, Role::Client] {
        let mut connection = machine(role, State::Accepting, start);
        let timeouts = Timeouts { handshake: Duration::ZERO, idle: Duration::ZERO, ..TIMEOUTS };
        connection.timers.timeouts = timeouts;
        assert_eq!(connection.deadline(), None);
        let accepted = start + 7 * SECOND;
        connection.accept_handshake(accepted).unwrap();
        for beat in 1..4 {
            let due = accepted + beat * 30 * SECOND;
            assert_eq!(connection.deadline(), Some(due));
            // Being a little late does not shift the rhythm.
            let late = due + SECOND;
            assert_eq!(connection.handle_timeout(late), Some(TimeoutAction::SendHeartbeat));
            assert_eq!(connection.handle_timeout(late), None);
        }
        // After sleeping through several intervals there is one heartbeat, not a burst.
        let late = accepted + 1000 * SECOND;
        assert_eq!(connection.handle_timeout(late), Some(TimeoutAction::SendHeartbeat));
        assert_eq!(connection.handle_timeout(late), None);
        assert_eq!(connection.deadline(), Some(late + 30 * SECOND));
    }
}

#[test]
fn a_client_learns_its_intervals_from_the_response() {
    let start = Instant::now();
    let mut connection = machine(Role::Client, State::Accepting, start);
    connection.set_heartbeat(Some(3 * SECOND));
    connection.set_idle(Some(18 * SECOND));
    connection.accept_handshake(start).unwrap();
    assert_eq!(connection.deadline(), Some(start + 3 * SECOND));
    connection.set_heartbeat(None);
    assert_eq!(connection.deadline(), Some(start + 18 * SECOND));
    connection.set_idle(None);
    assert_eq!(connection.deadline(), None);
    connection.set_heartbeat(Some(Duration::MAX));
    assert_eq!(connection.deadline(), None);
}

#[test]
fn silence_is_counted_from_the_last_packet() {
    let start = Instant::now();
    let mut connection = machine(Role::Server, State::Working, start);
    connection.set_heartbeat(None);
    for (at, kind) in [(40, PacketKind::Heartbeat), (80, PacketKind::Kick), (120, PacketKind::Data)] {
        let now = start + at * SECOND;
        assert_eq!(connection.handle_timeout(now), None);
        connection.handle_packet(packet(kind), now).unwrap();
        assert_eq!(connection.last_activity(), now);
    }
    let end = start + (120 + 75) * SECOND;
    assert_eq!(connection.deadline(), Some(end));
    let action = TimeoutAction::Close(CloseReason::Idle);
    assert_eq!(connection.handle_timeout(end), Some(action));
}

#[test]
fn an_unfinished_packet_has_its_own_deadline() {
    let start = Instant::now();
    let mut connection = machine(Role::Server, State::Working, start);
    connection.set_heartbeat(None);
    connection.partial_packet(true, start + SECOND);
    connection.partial_packet(true, start + 3 * SECOND);
    assert_eq!(connection.deadline(), Some(start + 6 * SECOND), "kept for the same packet");
    connection.handle_packet(packet(PacketKind::Data), start + 4 * SECOND).unwrap();
    assert_eq!(connection.deadline(), Some(start + 79 * SECOND), "the packet is complete");
    connection.partial_packet(true, start + 4 * SECOND);
    assert_eq!(connection.deadline(), Some(start + 9 * SECOND), "the next one has begun");
    connection.partial_packet(false, start + 5 * SECOND);
    assert_eq!(connection.handle_timeout(start + 9 * SECOND), None);
    connection.partial_packet(true, start + 10 * SECOND);
    let action = TimeoutAction::Close(CloseReason::PartialPacketTimeout);
    assert_eq!(connection.handle_timeout(start + 15 * SECOND), Some(action));
}

#[test]
fn a_pause_stops_silence_and_unfinished_packets() {
    let start = Instant::now();
    let mut connection = machine(Role::Server, State::Working, start);
    connection.set_heartbeat(None);
    connection.partial_packet(true, start + SECOND);
    connection.pause(start + 2 * SECOND);
    connection.pause(start + 500 * SECOND);
    assert_eq!(connection.deadline(), None);
    assert_eq!(connection.handle_timeout(start + 900 * SECOND), None);
    let resumed = start + 1000 * SECOND;
    connection.resume(resumed);
    connection.resume(resumed + SECOND);
    assert_eq!(connection.deadline(), Some(resumed + 4 * SECOND), "one second was used up");
    connection.partial_packet(false, resumed);
    assert_eq!(connection.deadline(), Some(resumed + 73 * SECOND), "two seconds were used up");

    // What begins during the pause starts with the end of the pause.
    connection.pause(resumed);
    let later = resumed + 60 * SECOND;
    connection.handle_packet(packet(PacketKind::Data), later).unwrap();
    connection.partial_packet(true, later);
    let end = later + 60 * SECOND;
    connection.resume(end);
    assert_eq!(connection.deadline(), Some(end + 5 * SECOND));
    connection.partial_packet(false, end);
    assert_eq!(connection.deadline(), Some(end + 75 * SECOND));
}

#[test]
fn heartbeats_go_on_during_a_pause() {
    let start = Instant::now();
    let mut connection = machine(Role::Server, State::Working, start);
    connection.pause(start);
    assert_eq!(connection.deadline(), Some(start + 30 * SECOND));
    let action = Some(TimeoutAction::SendHeartbeat);
    assert_eq!(connection.handle_timeout(start + 30 * SECOND), action);
}

#[test]
fn closing_comes_before_heartbeats() {
    let start = Instant::now();
    let mut connection = machine(Role::Server, State::Working, start);
    let action = TimeoutAction::Close(CloseReason::Idle);
    assert_eq!(connection.handle_timeout(start + 100 * SECOND), Some(action));
}
