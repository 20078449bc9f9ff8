//! The settings: each has an effect, and what is wrong is told.

mod adapters;
mod errors;
mod every_row;
mod presets;
mod report;
mod sources;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use pitaya::{
    BuildError, Cluster, Problem, Server, ServerBuilder, Session, TcpAcceptor, code,
    config::{ConfigError, Preset, Row, Setting, Size},
    handlers, settings,
};
use tokio::time::{Duration, Instant};

use crate::support::{Recorder, desk, eventually, serve, soon};

/// Every row, and the test that shows what it does.
const COVERED: [(&str, &str); 28] = [
    (
        "pitaya.heartbeat.interval",
        "connection::time::heartbeats_come_each_interval_after_the_handshake_and_none_before",
    ),
    ("pitaya.handshake.timeout", "acceptors::a_client_that_does_not_finish_the_handshake_is_closed_at_the_deadline"),
    ("pitaya.handshake.maxsize", "connection::framing::a_packet_over_the_limit_is_refused_by_its_header"),
    ("pitaya.packet.maxsize", "connection::framing::a_packet_over_the_limit_is_refused_by_its_header"),
    ("pitaya.packet.timeout", "connection::time::a_packet_that_dribbles_in_is_closed_at_its_deadline"),
    ("pitaya.handler.messages.maxinflated", "connection::bodies::a_body_may_inflate_to_the_limit_and_no_further"),
    ("pitaya.handler.panictext", "handlers::failure::a_panic_is_answered_with_its_text_where_the_setting_says_so"),
    ("pitaya.handler.messages.compression", "connection::bodies::without_compression_nothing_is_compressed"),
    (
        "pitaya.handler.messages.compressionthreshold",
        "connection::bodies::bodies_from_the_threshold_on_are_compressed_where_that_is_shorter",
    ),
    (
        "pitaya.buffer.agent.messages",
        "connection::slow::at_one_message_more_than_the_bound_a_client_is_a_slow_consumer",
    ),
    ("pitaya.buffer.agent.bytes", "connection::slow::at_the_bound_in_bytes_a_client_is_a_slow_consumer"),
    ("pitaya.buffer.agent.writetimeout", "connection::time::a_write_that_makes_no_progress_is_given_up"),
    (
        "pitaya.concurrency.handler.dispatch",
        "concurrency::as_many_messages_as_the_setting_says_are_handled_at_once_and_one_more_waits",
    ),
    (
        "pitaya.buffer.handler.localprocess",
        "concurrency::connections_whose_messages_find_no_place_to_wait_are_not_read",
    ),
    (
        "pitaya.buffer.handler.remoteprocess",
        "cluster::a_backend_that_never_answers_keeps_nobody_from_the_handlers_here",
    ),
    (
        "pitaya.defaultpipelines.structvalidation.enabled",
        "pipelines::valid::without_struct_validation_the_handler_runs_whatever_its_argument_says",
    ),
    ("pitaya.session.unfinished", "ordering::the_number_of_unfinished_handlers_is_bounded"),
    ("pitaya.session.unique", "cluster::without_unique_sessions_both_stay_on_two_frontends"),
    (
        "pitaya.cluster.rpc.server.loopbackenabled",
        "cluster::remotes::a_server_calls_itself_only_where_loopback_is_enabled",
    ),
    ("pitaya.session.steptimeout", "settings::a_step_of_a_bind_or_close_is_given_up_at_its_timeout"),
    (
        "pitaya.modules.starttimeout",
        "lifecycle::a_part_that_fails_ends_the_start_with_its_name_and_what_began_is_shut_down",
    ),
    ("pitaya.modules.stoptimeout", "lifecycle::a_part_that_fails_to_stop_is_told_and_keeps_nothing_else_from_stopping"),
    ("pitaya.session.drain.enabled", "shutdown::a_draining_server_serves_the_clients_it_has_until_they_have_gone"),
    ("pitaya.session.drain.timeout", "shutdown::clients_that_do_not_go_in_time_are_answered_and_kicked"),
    ("pitaya.session.drain.period", "shutdown::how_many_clients_are_waited_for_is_logged_each_period"),
    ("pitaya.shutdown.kick", "shutdown::without_the_kick_clients_are_closed_after_what_they_are_owed"),
    ("pitaya.shutdown.graceperiod", "shutdown::a_handler_that_never_ends_is_cut_off_at_the_grace_period"),
    (
        "pitaya.groups.memory.tickduration",
        "groups::ttl::a_group_is_gone_at_its_time_to_live_rounded_up_to_the_next_tick",
    ),
];

/// The rows of the engine and of all adapters.
fn all_rows() -> Vec<&'static dyn Row> {
    settings::rows().into_iter().chain(Cluster::from_config().settings().iter().copied()).collect()
}

fn covered() -> impl Iterator<Item = (&'static str, &'static str)> {
    COVERED.into_iter().chain(adapters::COVERED)
}

#[test]
fn each_row_has_a_test() {
    let rows: Vec<_> = all_rows().iter().map(|row| row.name()).collect();
    assert_eq!(rows, covered().map(|(name, _)| name).collect::<Vec<_>>());
}

struct Account;

#[handlers(name = "account")]
impl Account {
    #[request]
    async fn login(&self, session: Session) -> pitaya::Result<()> {
        session.bind("ada").await
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_of_a_bind_or_close_is_given_up_at_its_timeout() {
    let recorder = Recorder::default();
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let builder = Server::frontend("game")
        .handlers(Account)
        .reporter(recorder.clone())
        .set(&settings::SESSION_STEP_TIMEOUT, Duration::from_secs(3))
        .on_bind(|_, _| std::future::pending())
        .on_close(|_, _| std::future::pending())
        .on_close(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            async {}
        });
    let server = serve(builder).await;
    let mut raw = server.pipes.established().await;
    let start = Instant::now();
    raw.send_message(&pitaya_protocol::Message::request(1, "account.login", "")).await;
    let answer = raw.message().await.unwrap();
    let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.error, error["code"].as_str()), (true, Some(code::TIMEOUT)));
    assert_eq!(start.elapsed().as_secs(), 3);

    drop(raw);
    let start = Instant::now();
    eventually("the callback behind the one that hangs", || closed.load(Ordering::SeqCst) == 1).await;
    assert_eq!(start.elapsed().as_secs(), 3);
}

/// A description that is right but for its settings.
async fn described(settings: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Result<Server, BuildError> {
    let acceptor = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
    settings(desk().acceptor(acceptor)).build()
}

fn clustered(builder: ServerBuilder) -> ServerBuilder {
    builder.cluster(Cluster::from_config())
}

fn config_errors(built: Result<Server, BuildError>) -> Vec<ConfigError> {
    let error = built.expect_err("the settings are wrong");
    let of_config = |problem: &Problem| match problem {
        Problem::Config(error) => error.clone(),
        other => panic!("{other}"),
    };
    error.problems().iter().map(of_config).collect()
}

#[tokio::test]
async fn values_that_are_not_allowed_are_told_with_key_value_and_what_is_allowed() {
    let cases = [
        ("pitaya.heartbeat.interval", "0s"),
        ("pitaya.heartbeat.interval", "1500ms"),
        ("pitaya.heartbeat.interval", "often"),
        ("pitaya.heartbeat.interval", "2147483648s"),
        ("pitaya.handshake.timeout", "0"),
        ("pitaya.handshake.maxsize", "63"),
        ("pitaya.handshake.maxsize", "16MiB"),
        ("pitaya.packet.maxsize", "0"),
        ("pitaya.packet.maxsize", "16777216"),
        ("pitaya.packet.maxsize", "-1"),
        ("pitaya.packet.timeout", "0s"),
        ("pitaya.handler.messages.maxinflated", "much"),
        ("pitaya.handler.panictext", "loud"),
        ("pitaya.handler.messages.compression", "lzma"),
        ("pitaya.handler.messages.compressionthreshold", "-5"),
        ("pitaya.buffer.agent.messages", "0"),
        ("pitaya.buffer.agent.messages", "12.5"),
        ("pitaya.buffer.agent.bytes", "0KiB"),
        ("pitaya.buffer.agent.writetimeout", "0ms"),
        ("pitaya.concurrency.handler.dispatch", "0"),
        ("pitaya.concurrency.handler.dispatch", "16777217"),
        ("pitaya.buffer.handler.localprocess", "0"),
        ("pitaya.buffer.handler.remoteprocess", "-3"),
        ("pitaya.defaultpipelines.structvalidation.enabled", "perhaps"),
        ("pitaya.session.unfinished", "0"),
        ("pitaya.session.unique", "both"),
        ("pitaya.cluster.rpc.server.loopbackenabled", "often"),
        ("pitaya.session.steptimeout", "0s"),
        ("pitaya.modules.starttimeout", "0"),
        ("pitaya.modules.stoptimeout", "soon"),
        ("pitaya.session.drain.enabled", "maybe"),
        ("pitaya.session.drain.timeout", "1e30s"),
        ("pitaya.session.drain.period", "0ms"),
        ("pitaya.shutdown.kick", "2"),
        ("pitaya.shutdown.graceperiod", "-1s"),
        ("pitaya.groups.memory.tickduration", "0s"),
    ];
    let cases = || cases.into_iter().chain(adapters::WRONG);
    let secret: Vec<_> = all_rows().iter().filter(|row| row.is_secret()).map(|row| row.name()).collect();
    // One by one, and all at once.
    for (key, text) in cases() {
        let errors = config_errors(described(|builder| clustered(builder).set_text(key, text)).await);
        let [ConfigError::Invalid { name, value, allowed, .. }] = &errors[..] else {
            panic!("{key} = {text}: {errors:?}")
        };
        let shown = if secret.contains(&key) { "***" } else { text };
        assert_eq!((*name, value.as_str()), (key, shown));
        assert!(!allowed.is_empty());
    }
    let all = described(|builder| cases().fold(clustered(builder), |builder, (key, text)| builder.set_text(key, text)));
    assert_eq!(config_errors(all.await).len(), cases().count());
    for (row, _) in covered().filter(|(row, _)| !adapters::ANY_TEXT.contains(row)) {
        assert!(cases().any(|(key, _)| key == row), "{row} has no wrong value here");
    }
}

#[tokio::test]
async fn values_set_in_code_are_checked_like_texts() {
    let built = described(|builder| {
        builder
            .set(&settings::HEARTBEAT_INTERVAL, Duration::from_millis(2500))
            .set(&settings::OUTBOX_MESSAGES, 0)
            .set(&settings::PACKET_MAX_SIZE, Size(10))
    });
    let names: Vec<_> = config_errors(built.await)
        .into_iter()
        .map(|error| match error {
            ConfigError::Invalid { name, .. } => name,
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(names, ["pitaya.heartbeat.interval", "pitaya.buffer.agent.messages", "pitaya.packet.maxsize"]);
}

#[tokio::test]
async fn a_key_that_is_not_known_is_told_with_the_nearest_that_is() {
    let nearest = |of: &'static str| async move {
        let errors = config_errors(described(|builder| builder.set_text(of, "1")).await);
        match &errors[..] {
            [ConfigError::Unknown { name, nearest, .. }] if name == of => *nearest,
            other => panic!("{of}: {other:?}"),
        }
    };
    assert_eq!(nearest("pitaya.heartbeat.intervall").await, Some("pitaya.heartbeat.interval"));
    assert_eq!(nearest("pitaya.handshake.maxSizes").await, Some("pitaya.handshake.maxsize"));
    assert_eq!(nearest("database.url").await, None);
}

/// All of `build()`'s complaints come together, whatever they are about.
#[tokio::test]
async fn wrong_settings_are_told_together_with_everything_else() {
    let error = desk()
        .handlers(crate::support::Desk)
        .dictionary([("a.b", 1), ("c.d", 1)])
        .set_text("pitaya.no.such", "1")
        .set_text("pitaya.session.unfinished", "none")
        .build()
        .expect_err("nothing of it is right");
    let kinds: Vec<_> = error
        .problems()
        .iter()
        .map(|problem| match problem {
            Problem::Config(_) => "config",
            Problem::Dictionary(_) => "dictionary",
            Problem::NoAcceptor => "acceptor",
            Problem::DuplicateComponent { .. } => "component",
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(kinds, ["config", "config", "dictionary", "acceptor", "component"]);
}

#[tokio::test]
async fn names_are_read_in_any_case_and_by_their_other_spellings() {
    let server = described(|builder| {
        builder.set_text("PITAYA.Heartbeat.Interval", "7").set_text("pitaya.buffer.agent.conntimeout", "1m30s")
    });
    let app = server.await.unwrap().app();
    assert_eq!(app.config().get(&settings::HEARTBEAT_INTERVAL), Duration::from_secs(7));
    assert_eq!(app.config().get(&settings::WRITE_TIMEOUT), Duration::from_secs(90));
}

#[tokio::test]
async fn what_is_set_wins_over_a_preset_and_a_preset_over_the_defaults() {
    let app = described(|builder| builder).await.unwrap().app();
    assert_eq!(app.config().get(&settings::HEARTBEAT_INTERVAL), Duration::from_secs(10));
    assert_eq!(app.config().get(&settings::OUTBOX_MESSAGES), 16_384);
    // In any order of the calls.
    for preset_first in [true, false] {
        let built = described(|builder| {
            let set = |builder: ServerBuilder| builder.set(&settings::OUTBOX_MESSAGES, 5);
            if preset_first { set(builder.preset(Preset::GoV3)) } else { set(builder).preset(Preset::GoV3) }
        });
        let app = built.await.unwrap().app();
        assert_eq!(app.config().get(&settings::HEARTBEAT_INTERVAL), Duration::from_secs(30));
        assert_eq!(app.config().get(&settings::OUTBOX_MESSAGES), 5);
        assert_eq!(app.config().get(&settings::PACKET_MAX_SIZE), Size::kib(64), "no preset says otherwise");
    }
}

static ROUND: Setting<Duration> = Setting::new("game.round", Duration::from_secs(60), "How long a round lasts.");

#[tokio::test]
async fn an_application_may_have_settings_of_its_own() {
    let unknown = config_errors(described(|builder| builder.set_text("game.round", "5s")).await);
    assert!(matches!(unknown[..], [ConfigError::Unknown { .. }]));
    let rows = || [&ROUND as &'static dyn Row];
    let app = described(|builder| builder.set_text("game.round", "5s").settings(rows())).await.unwrap().app();
    assert_eq!(app.config().get(&ROUND), Duration::from_secs(5));
    let wrong = config_errors(described(|builder| builder.settings(rows()).set_text("game.round", "long")).await);
    assert!(matches!(wrong[..], [ConfigError::Invalid { name: "game.round", .. }]));
}

/// Of several texts for one key the last counts.
#[tokio::test]
async fn a_running_server_has_the_values_that_were_set() {
    let server = serve(
        desk()
            .set_text("pitaya.heartbeat.interval", "20s")
            .set_text("pitaya.heartbeat.interval", "33s")
            .set(&settings::SESSION_UNFINISHED, 3),
    )
    .await;
    let client = server.client().await;
    assert_eq!(client.handshake().heartbeat, Some(Duration::from_secs(33)));
    assert_eq!(soon("an answer", client.request_bytes("desk.echo", "x")).await.unwrap(), "x");
}
