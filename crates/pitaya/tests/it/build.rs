//! What `build` refuses: everything that is wrong, at once.

mod serializer;

use std::{collections::BTreeSet, sync::Arc};

use pitaya::{
    BuildError, Bytes, Component, Error, Handlers, Json, Problem, Serializer, Server, ServerBuilder,
    config::{ConfigError, Setting, Size},
    extract::State,
    handlers,
    layers::RequireBound,
    settings,
};

use crate::support::{PipeAcceptor, Pipes};

fn acceptor() -> PipeAcceptor {
    Pipes::new().1
}

/// A frontend that lacks nothing.
fn game() -> ServerBuilder {
    Server::frontend("game").acceptor(acceptor())
}

/// Builds, and expects it to be refused.
fn refused(builder: ServerBuilder) -> BuildError {
    match builder.build() {
        Ok(_) => panic!("it was built"),
        Err(error) => error,
    }
}

/// Expects one problem and no more, and looks at it.
#[track_caller]
fn only<T>(builder: ServerBuilder, look: impl FnOnce(&Problem) -> T) -> T {
    let error = refused(builder);
    assert_eq!(error.problems().len(), 1, "{error}");
    look(&error.problems()[0])
}

/// Expects one problem that fits the pattern.
macro_rules! assert_only {
    ($builder:expr, $pattern:pat $(if $guard:expr)? $(, $context:expr)?) => {
        only($builder, |problem| {
            let what = String::new() $(+ &format!(" for {:?}", $context))?;
            assert!(matches!(problem, $pattern $(if $guard)?), "{problem}{what}");
        })
    };
}

fn component(name: &str, methods: &[&str]) -> Component {
    let builder = Component::builder(name, Arc::new(()));
    methods.iter().fold(builder, |builder, method| builder.request(*method, async || Json(1))).build()
}

struct Gold;
struct Silver;

struct Shop;

#[handlers(name = "shop")]
impl Shop {
    #[request]
    async fn buy(&self, _gold: State<Gold>, Json(_what): Json<String>) -> Json<u8> {
        Json(1)
    }

    #[request]
    async fn sell(&self, _gold: State<Gold>, _silver: State<Silver>) {}

    #[request]
    async fn maybe(&self, _silver: Option<State<Silver>>) {}

    #[notify]
    async fn raw(&self, _body: Bytes) {}
}

/// A serializer of the user that `Json` does not belong to.
struct MsgPack;

impl Serializer for MsgPack {
    fn name(&self) -> &'static str {
        "msgpack"
    }

    fn encode_error(&self, _error: &Error) -> Bytes {
        Bytes::new()
    }
}

#[test]
fn a_whole_description_is_built() {
    let server = game().handlers(Shop).state(Gold).state(Silver).id("game-1").build().unwrap();
    assert_eq!(server.app().server().id.as_str(), "game-1");
    assert_eq!(server.app().server().kind.as_str(), "game");
}

#[test]
fn the_order_of_calls_decides_nothing() {
    let early =
        Server::frontend("game").state(Gold).state(Silver).serializer(MsgPack).handlers(Shop).acceptor(acceptor());
    let late =
        Server::frontend("game").acceptor(acceptor()).handlers(Shop).serializer(MsgPack).state(Silver).state(Gold);
    assert_eq!(refused(early).to_string(), refused(late).to_string());
}

#[test]
fn what_other_servers_would_not_read_is_refused() {
    let told = |len| game().metadata("motto", "x".repeat(len));
    assert!(told(62 * 1024).build().is_ok());
    let problem = only(told(63 * 1024), ToString::to_string);
    assert!(problem.starts_with("the server as JSON, with its metadata, has 64") && problem.ends_with("read 64512"));
}

#[test]
fn a_frontend_without_acceptor_is_refused() {
    assert_only!(Server::frontend("game"), Problem::NoAcceptor);
}

#[test]
fn two_components_of_one_name_are_refused() {
    assert_only!(game().component(component("room", &["a"])).component(component("room", &["b"])), Problem::DuplicateComponent { name } if name == "room");
    let again = Arc::new(Shop).into_component().with_name("room");
    assert_only!(game().state(Gold).state(Silver).component(component("room", &["a"])).component(again), Problem::DuplicateComponent { name } if name == "room");
}

#[test]
fn two_handlers_of_one_route_are_refused() {
    assert_only!(game().component(component("room", &["join", "leave", "join"])), Problem::DuplicateRoute { route } if route == "room.join");
    // Names that become the same.
    let renamed = component("room", &["join", "JOIN"]).with_name_fn(str::to_lowercase);
    assert_only!(game().component(renamed), Problem::DuplicateRoute { route } if route == "room.join");
}

#[test]
fn names_that_are_no_parts_of_a_route_are_refused() {
    for name in ["", " ", "a.b", ".", "a."] {
        assert_only!(game().component(component(name, &["join"])), Problem::BadRoute { route } if *route == format!("{name}.join"), name);
        assert_only!(game().component(component("room", &["ok", name])), Problem::BadRoute { route } if *route == format!("room.{name}"), name);
    }
}

#[test]
fn names_of_servers_that_are_no_names_are_refused() {
    for name in ["", "a b", "a/b", "*", "a..b"] {
        assert_only!(Server::frontend(name).acceptor(acceptor()), Problem::Name(_), name);
        assert_only!(game().id(name), Problem::Name(_), name);
    }
    let error = refused(Server::frontend("a b").id("c d").acceptor(acceptor()));
    assert_eq!(error.problems().len(), 2, "{error}");
}

#[test]
fn each_state_that_a_handler_takes_and_the_app_lacks_is_told_with_its_route() {
    let error = refused(game().handlers(Shop));
    let mut missing = BTreeSet::new();
    for problem in error.problems() {
        let Problem::State { route, name } = problem else { panic!("{problem}") };
        missing.insert((route.as_str(), name.rsplit("::").next().unwrap()));
    }
    assert_eq!(error.problems().len(), 3);
    let expected = [("game.shop.buy", "Gold"), ("game.shop.sell", "Gold"), ("game.shop.sell", "Silver")];
    assert_eq!(missing, BTreeSet::from(expected));
}

#[test]
fn every_handler_of_another_format_than_the_serializer_is_told() {
    let closures = Component::builder("talk", Arc::new(()))
        .request("argument", async |Json(_): Json<u8>| {})
        .request("result", async || Ok::<_, Error>(Some(Json(1))))
        .request("optional", async |_: Option<Json<u8>>| {})
        .notify("bytes", async |_: Bytes| {})
        .build();
    let error = refused(game().handlers(Shop).state(Gold).state(Silver).component(closures).serializer(MsgPack));
    let mut routes = Vec::new();
    for problem in error.problems() {
        let Problem::Format { route, format, serializer } = problem else { panic!("{problem}") };
        assert_eq!((*format, *serializer), ("json", "msgpack"));
        routes.push(route.as_str());
    }
    routes.sort_unstable();
    assert_eq!(routes, ["game.shop.buy", "game.talk.argument", "game.talk.optional", "game.talk.result"]);
}

#[test]
fn a_dictionary_that_contradicts_itself_is_refused() {
    let cases: [&[(&str, u16)]; 5] = [
        &[("room.join", 1), ("room.leave", 1)],
        &[("room.join", 1), ("room.join", 2)],
        &[("room.join", 0)],
        &[("", 1)],
        &[(&"r".repeat(256), 1)],
    ];
    for entries in cases {
        assert_only!(
            game().dictionary(entries.iter().map(|(route, code)| (*route, *code))),
            Problem::Dictionary(_),
            entries
        );
    }
    // Given in two calls, it is one dictionary.
    assert_only!(game().dictionary([("room.join", 1)]).dictionary([("room.leave", 1)]), Problem::Dictionary(_));
    game().dictionary([("room.join", 1)]).dictionary([("room.leave", 2)]).build().unwrap();
}

#[test]
fn an_unknown_setting_is_refused_and_the_nearest_one_named() {
    only(game().set_text("pitaya.heartbeat.intervall", "5s"), |problem| {
        let Problem::Config(ConfigError::Unknown { name, nearest, .. }) = problem else { panic!("{problem}") };
        assert_eq!((name.as_str(), *nearest), ("pitaya.heartbeat.intervall", Some("pitaya.heartbeat.interval")));
        assert!(problem.to_string().contains("pitaya.heartbeat.interval?"));
    });

    assert_only!(
        game().set_text("shop.opening.hours", "9 to 5"),
        Problem::Config(ConfigError::Unknown { nearest: None, .. })
    );
}

#[test]
fn a_value_that_is_not_allowed_is_refused_however_it_is_set() {
    let texts = [
        ("pitaya.heartbeat.interval", "soon"),
        ("pitaya.heartbeat.interval", "1500ms"),
        ("pitaya.heartbeat.interval", "0"),
        ("pitaya.heartbeat.interval", "-1s"),
        ("pitaya.handler.messages.compression", "perhaps"),
        ("pitaya.buffer.agent.messages", "0"),
        ("pitaya.buffer.agent.messages", "-5"),
        ("pitaya.packet.maxsize", "1GiB"),
        ("pitaya.session.unfinished", "many"),
    ];
    for (key, value) in texts {
        only(game().set_text(key, value), |problem| {
            let Problem::Config(ConfigError::Invalid { name, value: shown, allowed, .. }) = problem else {
                panic!("{problem}")
            };
            assert_eq!((*name, shown.as_str()), (key, value));
            assert!(!allowed.is_empty());
        });
    }
    for builder in [
        game().set(&settings::HEARTBEAT_INTERVAL, std::time::Duration::from_millis(1)),
        game().set(&settings::PACKET_MAX_SIZE, Size(usize::MAX)),
        game().set(&settings::SESSION_UNFINISHED, 0),
    ] {
        assert_only!(builder, Problem::Config(ConfigError::Invalid { .. }));
    }
}

static LEVELS: Setting<usize> = Setting::new("shop.levels", 3, "How many levels there are.")
    .aliases(&["shop.floors"])
    .checked(|levels| if *levels == 0 { Err("at least 1") } else { Ok(()) });

#[test]
fn settings_of_the_application_are_checked_like_ours() {
    let with_rows = || game().settings([&LEVELS as _]);
    assert_eq!(with_rows().build().unwrap().app().config().get(&LEVELS), 3);
    assert_eq!(with_rows().set_text("Shop.Floors", "4").build().unwrap().app().config().get(&LEVELS), 4);
    // Whether it is set before or after its row is added.
    let early = game().set_text("shop.levels", "5").settings([&LEVELS as _]);
    assert_eq!(early.build().unwrap().app().config().get(&LEVELS), 5);
    assert_only!(with_rows().set_text("shop.levels", "0"), Problem::Config(ConfigError::Invalid { .. }));
    assert_only!(game().set_text("shop.levels", "1"), Problem::Config(ConfigError::Unknown { .. }));
}

/// What kind of problem it is, as a word.
fn kind(problem: &Problem) -> &'static str {
    match problem {
        Problem::Name(_) => "name",
        Problem::Config(ConfigError::Unknown { .. }) => "unknown setting",
        Problem::Config(ConfigError::Invalid { .. }) => "invalid value",
        Problem::Dictionary(_) => "dictionary",
        Problem::NoAcceptor => "no acceptor",
        Problem::DuplicateComponent { .. } => "duplicate component",
        Problem::DuplicateRoute { .. } => "duplicate route",
        Problem::BadRoute { .. } => "bad route",
        Problem::Format { .. } => "format",
        Problem::State { .. } => "state",
        Problem::LayerRoute { .. } => "layer route",
        other => panic!("{other}"),
    }
}

#[test]
fn what_a_second_component_of_a_name_lacks_is_told_with_it() {
    let error = refused(game().component(component("shop", &["buy"])).handlers(Shop).state(Gold));
    let kinds: BTreeSet<_> = error.problems().iter().map(kind).collect();
    assert_eq!(kinds, BTreeSet::from(["duplicate component", "state"]), "{error}");
}

#[test]
fn all_problems_are_told_at_once() {
    let builder = Server::frontend("no name")
        .id("no id")
        .component(component("room", &["join", "join", "no.part", ""]))
        .component(component("room", &["other"]))
        .component(component("", &["join"]))
        .handlers(Shop)
        .layer(RequireBound::except(["shop.login"]))
        .serializer(MsgPack)
        .dictionary([("room.join", 0)])
        .set_text("pitaya.heartbeat.intervall", "5s")
        .set_text("pitaya.heartbeat.interval", "soon")
        .set(&settings::SESSION_UNFINISHED, 0);
    let error = refused(builder);
    let mut kinds: Vec<_> = error.problems().iter().map(kind).collect();
    kinds.sort_unstable();
    let expected = [
        "bad route",
        "bad route",
        "bad route",
        "dictionary",
        "duplicate component",
        "duplicate route",
        "format", // room.join
        "format", // room.join again
        "format", // room.other
        "format", // shop.buy
        "invalid value",
        "invalid value",
        "layer route",
        "name",
        "name",
        "no acceptor",
        "state",
        "state",
        "state",
        "unknown setting",
    ];
    assert_eq!(kinds, expected, "{error}");
    // The text has a line for each.
    let text = error.to_string();
    assert_eq!(text.lines().filter(|line| line.starts_with("- ")).count(), expected.len());
    for problem in error.problems() {
        assert!(text.contains(&problem.to_string()));
    }
}
