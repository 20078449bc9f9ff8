//! Arguments that must keep the rules of their type (K80).

use garde::Validate;
use pitaya::{Json, Server, ServerBuilder, code, config::Preset, extract::Valid, handlers, settings};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{Events, refused, serve};

#[derive(Serialize, Deserialize, Validate)]
struct Order {
    #[garde(length(min = 1, max = 10))]
    name: String,
    #[garde(range(max = 99))]
    count: u32,
    #[garde(dive)]
    #[serde(default)]
    gifts: Vec<Gift>,
}

#[derive(Serialize, Deserialize, Validate)]
struct Gift {
    #[garde(ascii)]
    to: String,
}

struct Shop(Events);

type Checked<T> = Valid<Json<T>>;

#[handlers(name = "shop")]
impl Shop {
    #[request]
    async fn order(&self, Valid(Json(order)): Valid<Json<Order>>) -> Json<u32> {
        self.0.add(format!("order {}", order.name));
        Json(order.count)
    }

    #[request]
    async fn perhaps(&self, order: Option<Checked<Order>>) -> Json<bool> {
        self.0.add("perhaps");
        Json(order.is_some())
    }
}

fn shop(calls: &Events) -> ServerBuilder {
    Server::frontend("game").handlers(Shop(calls.clone()))
}

#[tokio::test]
async fn an_argument_that_breaks_a_rule_is_refused_by_field_and_the_handler_not_called() {
    let calls = Events::default();
    let server = serve(shop(&calls)).await;
    let client = server.client().await;
    let whole = json!({"name": "sword", "count": 3, "gifts": [{"to": "ada"}]});
    assert_eq!(client.request::<u32>("shop.order", &whole).await.unwrap(), 3);
    assert_eq!(calls.all(), ["order sword"]);

    let broken = json!({"name": "", "count": 100, "gifts": [{"to": "ada"}, {"to": "\u{e9}va"}]});
    let error = refused(client.request::<u32>("shop.order", &broken).await);
    assert_eq!(error.code, code::BAD_REQUEST);
    let fields: Vec<_> = error.message.split("; ").map(|rule| rule.split_once(": ").unwrap().0).collect();
    assert_eq!(fields, ["count", "gifts[1].to", "name"], "{}", error.message);
    // What cannot be read is told as without rules.
    let error = refused(client.request_bytes("shop.order", r#"{"name":"sword"}"#).await);
    assert_eq!(error.code, code::BAD_REQUEST);
    assert!(error.message.contains("missing field `count`"), "{}", error.message);
    assert_eq!(calls.all(), ["order sword"]);

    assert!(!client.request_bytes("shop.perhaps", "").await.unwrap().starts_with(b"true"));
    assert!(client.request::<bool>("shop.perhaps", &whole).await.unwrap());
    assert_eq!(refused(client.request::<bool>("shop.perhaps", &broken).await).code, code::BAD_REQUEST);
    assert_eq!(calls.count("perhaps"), 2);
}

#[tokio::test]
async fn a_long_list_of_wrong_items_has_a_short_answer() {
    let server = serve(shop(&Events::default())).await;
    let client = server.client().await;
    let gifts: Vec<_> = (0..500).map(|_| json!({"to": "\u{e9}"})).collect();
    let order = json!({"name": "many", "count": 1, "gifts": gifts});
    let error = refused(client.request::<u32>("shop.order", &order).await);
    assert_eq!(error.message.split("; ").count(), 9, "{}", error.message);
    assert!(error.message.ends_with("; and 492 more"), "{}", error.message);
}

const KEY: &str = "pitaya.defaultpipelines.structvalidation.enabled";

/// K80: switched off by name, in code, or by a preset of Go, the handler runs.
#[tokio::test]
async fn without_struct_validation_the_handler_runs_whatever_its_argument_says() {
    type Setting = fn(ServerBuilder) -> ServerBuilder;

    let broken = json!({"name": "", "count": 100});
    let cases: [(Setting, bool); 6] = [
        (|builder| builder.set_text(KEY, "false"), false),
        (|builder| builder.set(&settings::STRUCT_VALIDATION, false), false),
        (|builder| builder.preset(Preset::GoV2), false),
        (|builder| builder.preset(Preset::GoV3), false),
        (|builder| builder.preset(Preset::Docs2020), true),
        (|builder| builder.preset(Preset::GoV2).set_text(KEY, "true"), true),
    ];
    for (set, checked) in cases {
        let calls = Events::default();
        let server = serve(set(shop(&calls))).await;
        let answer = server.client().await.request::<u32>("shop.order", &broken).await;
        if checked {
            assert_eq!(refused(answer).code, code::BAD_REQUEST);
            assert!(calls.all().is_empty());
        } else {
            assert_eq!(answer.unwrap(), 100);
            assert_eq!(calls.all(), ["order "]);
        }
    }
}
