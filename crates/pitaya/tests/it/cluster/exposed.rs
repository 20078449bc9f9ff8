//! F006, F022, F023: which servers clients reach, and what they are told of the others: that there are none.

use std::sync::Arc;

use pitaya::{Protobuf, Server, remotes};
use serde_json::json;

use super::{
    Node, Number, Shared, World, acquainted,
    adapters::{ghost, go_ghost, with_ghosts},
    in_each_world, number, request,
};
use crate::support::eventually;

struct Ledger;

#[remotes(name = "ledger")]
impl Ledger {
    #[remote]
    async fn sum(&self, Protobuf(it): Protobuf<Number>) -> Protobuf<Number> {
        number(it.value + 1)
    }
}

/// Servers without handlers are nothing for clients, unless they are exposed by name; and then they still have none.
async fn only_types_that_have_handlers_or_are_named_are_reached(world: &World) {
    let shared = Arc::<Shared>::default();
    let closed = Node::start(world.gate("g1"), true).await;
    let open = Server::frontend("hall").id("h1").expose(["bank"]);
    let open = Node::start(world.of(open), true).await;
    let bank = Node::start(world.of(Server::backend("bank").id("b1")).remotes(Ledger), false).await;
    let room = Node::start(world.room("r1", &shared).remotes(Ledger), false).await;
    acquainted(&[&closed, &open, &bank, &room]).await;
    let (mut raw, mut other) = (closed.client().await, open.client().await);

    let none = json!({"code": "PIT-500", "msg": "no servers available of this type"});
    for route in ["bank.ledger.sum", "bank.sys.kick", "bank.bank.open", "nobody.room.echo", "hall.room.echo"] {
        assert_eq!(request(&mut raw, route, "").await.unwrap_err(), none, "{route}");
    }
    assert_eq!(request(&mut other, "gate.room.echo", "").await.unwrap_err(), none, "a frontend without handlers");
    // The servers themselves call it.
    let Protobuf(sum) = closed.app.rpc("bank.ledger.sum", number(1)).reply::<Protobuf<Number>>().await.unwrap();
    assert_eq!(sum.value, 2);

    for route in ["bank.ledger.sum", "bank.sys.kick", "bank.bank.open"] {
        let text = format!("pitaya/handler: {route} not found");
        assert_eq!(request(&mut other, route, "").await.unwrap_err(), json!({"code": "PIT-404", "msg": text}));
    }
    // Where there are handlers, remotes are not among them: neither those of the game nor those of the framework, neither
    // there nor here.
    for kind in ["room", "gate"] {
        for remote in ["ledger.sum", "sys.kick", "sys.bindsession", "sys.pushsession", "sys.sessionclosed"] {
            let text = format!("pitaya/handler: {kind}.{remote} not found");
            let error = request(&mut raw, &format!("{kind}.{remote}"), "").await.unwrap_err();
            assert_eq!(error, json!({"code": "PIT-404", "msg": text}));
        }
    }
    // And handlers are no remotes.
    let error = closed.app.rpc("room.room.echo", number(1)).reply::<()>().await.unwrap_err();
    assert_eq!((error.code(), error.message()), ("PIT-404", "route not found"));
}

/// Frontends with handlers are reached as backends are.
async fn a_frontend_with_handlers_is_reached_from_another(world: &World) {
    let shared = Arc::<Shared>::default();
    let gate = Node::start(world.gate("g1"), true).await;
    let hall = world.of(Server::frontend("hall").id("h1")).handlers(super::Room).shared_state(Arc::clone(&shared));
    let hall = Node::start(hall, true).await;
    acquainted(&[&gate, &hall]).await;
    let mut raw = gate.client().await;
    let who = request(&mut raw, "hall.room.who", "").await.unwrap();
    assert_eq!((&who["server"], &who["id"]), (&json!("h1"), &json!(1)));
    // It has the session of the gate's client in its hands, and none of its own.
    assert_eq!(hall.app.session_count(), 0);
    assert!(request(&mut raw, "hall.room.bind", "\"ada\"").await.is_ok());
    let uid = "ada".try_into().unwrap();
    assert!(gate.app.session_of(&uid).is_some() && hall.app.session_of(&uid).is_none());
}

/// As Go Pitaya says it.
const NOBODY_LISTENS: &str = "nats: no responders available for request";

/// Go Pitaya says nothing about handlers: its servers are reached where the type is exposed.
async fn servers_of_go_pitaya_are_reached_if_they_are_named(world: &World) {
    let (unknown, silent) = (("PIT-500", "no servers available of this type"), ("PIT-000", NOBODY_LISTENS));
    for (id, exposed, (code, text)) in
        [("g1", vec![], unknown), ("g2", vec!["shop", "inn"], silent), ("g3", vec!["inn"], unknown)]
    {
        let wiring = with_ghosts(world.wiring(), vec![go_ghost("shop", "s1"), ghost("inn", "i1")]);
        let gate = Node::start(world.of_with(wiring, Server::frontend("gate").id(id).expose(exposed)), true).await;
        eventually("both are known", || gate.app.servers().of_kind("shop").len() == 1).await;
        let mut raw = gate.client().await;
        let error = request(&mut raw, "shop.shop.buy", "").await.unwrap_err();
        assert_eq!((&error["code"], &error["msg"]), (&json!(code), &json!(text)), "{id}");
        let error = request(&mut raw, "inn.inn.sleep", "").await.unwrap_err();
        assert_eq!(error["msg"], NOBODY_LISTENS, "one of ours says itself that it has handlers");
    }
}

in_each_world!(
    only_types_that_have_handlers_or_are_named_are_reached,
    a_frontend_with_handlers_is_reached_from_another,
    servers_of_go_pitaya_are_reached_if_they_are_named,
);
