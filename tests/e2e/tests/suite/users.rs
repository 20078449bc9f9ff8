//! Binds, kicks, groups and pushes.

use pitaya_client::{Client, CloseReason, Pushes};

use crate::world::{World, ask, bind, closed, pushed};

const BIND: &str = "connector.testsvc.testbindid";
const ONLY_BIND: &str = "connector.testsvc.testonlybindid";
const UNIQUE: [(&str, &str); 1] = [("PITAYA_SESSION_UNIQUE", "true")];

/// Both members get what one of them has sent to the group.
async fn group_messages(kind: &str, sender: &Client, all: &mut [Pushes; 2]) {
    let cases = [
        ("testsendgroupmsg", "route.test", "testing group"),
        ("testsendgroupmsgptr", "route.testptr", r#"{"msg":"hellow"}"#),
    ];
    for (method, route, body) in cases {
        sender.notify_bytes(&format!("{kind}.testsvc.{method}"), body).await.unwrap();
        for pushes in &mut *all {
            assert_eq!(pushed(pushes).await, (route.to_owned(), body.to_owned()));
        }
    }
}

#[tokio::test]
async fn group_front() {
    let world = World::new().await;
    let connector = world.frontend("connector").await;
    let (one, two) = (connector.client().await, connector.client().await);
    for client in [&one, &two] {
        bind(client, "connector.testsvc.testbind", "").await;
    }
    group_messages("connector", &one, &mut [one.pushes(), two.pushes()]).await;
}

#[tokio::test]
async fn group_back() {
    let world = World::new().await;
    let _game = world.backend("game").await;
    let (first, second) = (world.frontend("connector").await, world.frontend("connector").await);
    let (one, two) = (first.client().await, second.client().await);
    for client in [&one, &two] {
        bind(client, "game.testsvc.testbind", "").await;
    }
    group_messages("game", &one, &mut [one.pushes(), two.pushes()]).await;
}

#[tokio::test]
async fn kick() {
    let world = World::new().await;
    let connector = world.frontend("connector").await;
    let (one, two) = (connector.client().await, connector.client().await);
    bind(&one, BIND, "u1").await;
    let kicked = ask(&two, "connector.testsvc.testrequestkickuser", "u1").await;
    assert_eq!(kicked.as_deref(), Ok(r#"{"code":200,"msg":"ok"}"#));
    assert!(matches!(closed(&one).await, CloseReason::Kicked));
    let nobody = ask(&two, "connector.testsvc.testrequestkickuser", "u2").await;
    assert_eq!(nobody.unwrap_err(), r#"{"code":"PIT-404","msg":"session not found"}"#);
}

#[tokio::test]
async fn kick_on_back() {
    let world = World::new().await;
    let connector = world.frontend("connector").await;
    let _game = world.backend("game").await;
    let client = connector.client().await;
    // The frontend learns of a backend that starts after it at any time.
    while ask(&client, "game.testsvc.testrequestreceivereturnsraw", "there?").await.is_err() {}
    bind(&client, "game.testsvc.testbind", "").await;
    // The answer may come before the kick, or not at all.
    drop(client.request_bytes("game.testsvc.testrequestkickme", "").await);
    assert!(matches!(closed(&client).await, CloseReason::Kicked));
}

#[tokio::test]
async fn unique_session_should_kick() {
    let world = World::new().await;
    let connector = world.start("connector", true, &UNIQUE).await;
    let one = connector.client().await;
    bind(&one, ONLY_BIND, "u1").await;
    let two = connector.client().await;
    bind(&two, ONLY_BIND, "u1").await;
    assert!(matches!(closed(&one).await, CloseReason::Kicked));
    assert_eq!(ask(&two, "connector.testsvc.testrequestreceivereturnsraw", "on").await.as_deref(), Ok("on"));
}

#[tokio::test]
async fn unique_session_should_succeed_if_kick_fails() {
    let world = World::new().await;
    let connector = world.start("connector", true, &UNIQUE).await;
    let one = connector.client().await;
    bind(&one, ONLY_BIND, "u1").await;
    one.close();
    bind(&connector.client().await, ONLY_BIND, "u1").await;
}

#[tokio::test]
async fn same_uid_user_should_be_kicked() {
    let world = World::new().await;
    let connector = world.frontend("connector").await;
    let (one, two) = (connector.client().await, connector.client().await);
    bind(&one, BIND, "u1").await;
    // The user is in the group already.
    assert!(ask(&two, BIND, "u1").await.unwrap_err().starts_with(r#"{"code":"PIT-441""#));
    assert!(matches!(closed(&one).await, CloseReason::Kicked));
}

#[tokio::test]
async fn same_uid_user_should_be_kicked_in_different_servers_from_same_type() {
    let world = World::new().await;
    let (first, second) = (world.frontend("connector").await, world.frontend("connector").await);
    let (one, two, watcher) = (first.client().await, second.client().await, second.client().await);
    bind(&watcher, BIND, "u2").await;
    bind(&one, BIND, "u1").await;
    // What the first server told the second has arrived when a later push has: a login that is heard of after a newer one
    // would end that.
    let body = r#"{"msg":"now","uids":["u2"]}"#;
    one.notify_bytes("connector.testsvc.testsendtousers", body).await.unwrap();
    assert_eq!(pushed(&mut watcher.pushes()).await.1, "now");
    bind(&two, BIND, "u1").await;
    assert!(matches!(closed(&one).await, CloseReason::Kicked));
    assert_eq!(ask(&two, "connector.testsvc.testrequestreceivereturnsraw", "on").await.as_deref(), Ok("on"));
}

#[tokio::test]
async fn same_uid_user_should_not_be_kicked_in_different_servers_from_different_types() {
    let world = World::new().await;
    let (first, second) = (world.frontend("connector1").await, world.frontend("connector2").await);
    let third = world.frontend("connector2").await;
    let (one, two, three) = (first.client().await, second.client().await, third.client().await);
    bind(&one, "connector1.testsvc.testbindid", "u1").await;
    bind(&two, "connector2.testsvc.testbindid", "u1").await;
    // The next of that type kicks the second: what would have kicked the first has passed. It may itself be kicked, by the
    // news of the second's login.
    drop(three.request_bytes("connector2.testsvc.testbindid", "u1").await);
    assert!(matches!(closed(&two).await, CloseReason::Kicked));
    assert_eq!(ask(&one, "connector1.testsvc.testrequestreceivereturnsraw", "on").await.as_deref(), Ok("on"));
}

#[tokio::test]
async fn push_to_users() {
    let world = World::new().await;
    let _game = world.backend("game").await;
    let (first, second) = (world.frontend("connector").await, world.frontend("connector").await);
    let (one, two) = (first.client().await, second.client().await);
    bind(&one, BIND, "u1").await;
    bind(&two, BIND, "u2").await;
    let mut all = [one.pushes(), two.pushes()];
    for kind in ["connector", "game"] {
        let body = r#"{"msg":"testing send to users","uids":["u1","u2"]}"#;
        one.notify_bytes(&format!("{kind}.testsvc.testsendtousers"), body).await.unwrap();
        for pushes in &mut all {
            assert_eq!(pushed(pushes).await, ("route.sendtousers".to_owned(), "testing send to users".to_owned()));
        }
    }
}
