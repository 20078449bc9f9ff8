//! Files, environment and code: how they are read, and which of them counts.

use std::collections::BTreeMap;

use pitaya::{
    Server, ServerBuilder,
    config::{Config, ConfigError, ConfigWarning, List, Map, Row, Setting, Size, Source, Sources, Table, Text, Value},
    settings,
};
use tokio::time::Duration;

use super::described;
use crate::support::{ConfigFile, desk, logs, serve};

static MAPS: Setting<List<Text>> =
    Setting::new("game.maps", List::Borrowed(&[Text::Borrowed("castle")]), "What is played on.");
static LABELS: Setting<Map> =
    Setting::new("game.labels", Map::new(), "What is said about the game.").aliases(&["game.tags"]);
static SPEED: Setting<Option<f64>> = Setting::new("game.speed", None, "How fast it is, if not as usual.");
static LIVES: Setting<u32> = Setting::new("game.Lives", 3, "How often one may fail.");
static PIECE: Setting<Size> = Setting::new("game.piece", Size(10), "How much is sent at once.");

fn table() -> Table {
    let own: [&'static dyn Row; 5] = [&MAPS, &LABELS, &SPEED, &LIVES, &PIECE];
    Table::new(settings::rows().into_iter().chain(own))
}

fn by_file(extension: &str, text: &str) -> Result<Config, Vec<ConfigError>> {
    let file = ConfigFile::new(extension, text);
    let mut sources = Sources::default();
    sources.file(file.path());
    table().resolve(sources)
}

fn by_variables(variables: &[(&str, &str)]) -> Result<Config, Vec<ConfigError>> {
    let mut sources = Sources::default();
    sources.environment(variables.iter().copied());
    table().resolve(sources)
}

/// Each kind of source wins over those before it, in whatever order they are given.
#[tokio::test]
async fn code_wins_over_environment_over_files_over_preset_over_default() {
    let file = ConfigFile::toml("[pitaya.heartbeat]\ninterval = \"41s\"");
    let preset = |builder: ServerBuilder| builder.preset(pitaya::config::Preset::GoV3);
    let path = file.path().to_owned();
    let file = move |builder: ServerBuilder| builder.config_file(&path);
    let environment = |builder: ServerBuilder| builder.environment([("PITAYA_HEARTBEAT_INTERVAL", "42s")]);
    let code = |builder: ServerBuilder| builder.set(&settings::HEARTBEAT_INTERVAL, Duration::from_secs(43));
    let steps: [(&dyn Fn(ServerBuilder) -> ServerBuilder, u64); 4] =
        [(&preset, 30), (&file, 41), (&environment, 42), (&code, 43)];
    for count in 0..=steps.len() {
        let expected = steps[..count].last().map_or(10, |(_, seconds)| *seconds);
        let forward = |builder| steps[..count].iter().fold(builder, |builder, (step, _)| step(builder));
        let backward = |builder| steps[..count].iter().rev().fold(builder, |builder, (step, _)| step(builder));
        let orders: [&dyn Fn(ServerBuilder) -> ServerBuilder; 2] = [&forward, &backward];
        for order in orders {
            let app = described(order).await.unwrap().app();
            assert_eq!(app.config().get(&settings::HEARTBEAT_INTERVAL).as_secs(), expected);
        }
    }
}

#[tokio::test]
async fn a_later_file_wins_over_an_earlier_one_and_leaves_the_rest() {
    let base = ConfigFile::toml("[pitaya.heartbeat]\ninterval = 20\n[pitaya.packet]\ntimeout = '3s'");
    let own = ConfigFile::new("yaml", "pitaya.heartbeat.interval: 21");
    let app = described(|builder| builder.config_file(base.path()).config_file(own.path())).await.unwrap().app();
    let config = app.config();
    assert_eq!(config.get(&settings::HEARTBEAT_INTERVAL), Duration::from_secs(21));
    assert_eq!(config.get(&settings::PACKET_TIMEOUT), Duration::from_secs(3));
    let key = "pitaya.heartbeat.interval".to_owned();
    assert_eq!(config.source(&settings::HEARTBEAT_INTERVAL), Source::File { path: own.path().into(), key });
    assert_eq!(config.source(&settings::PACKET_MAX_SIZE), Source::Default);
}

/// The heartbeat that a client is told (K42).
#[tokio::test]
async fn a_running_server_has_the_values_of_its_file_and_environment() {
    let file = ConfigFile::new("json", r#"{"pitaya": {"heartbeat": {"interval": 27}, "packet.maxSize": "2KiB"}}"#);
    let server = serve(desk().config_file(file.path()).environment([("PITAYA_PACKET_TIMEOUT", "1m30s")])).await;
    assert_eq!(server.client().await.handshake().heartbeat, Some(Duration::from_secs(27)));
    assert_eq!(server.app.config().get(&settings::PACKET_MAX_SIZE), Size::kib(2));
    assert_eq!(server.app.config().get(&settings::PACKET_TIMEOUT), Duration::from_secs(90));
}

/// Nothing is read that is not given.
#[tokio::test]
async fn two_servers_of_one_process_have_their_own_environments() {
    for seconds in ["5", "6"] {
        let built = described(|builder| builder.environment([("PITAYA_HEARTBEAT_INTERVAL", seconds)])).await;
        assert_eq!(built.unwrap().app().config().get(&settings::HEARTBEAT_INTERVAL).as_secs().to_string(), seconds);
    }
    assert!(pitaya::config::environment().iter().any(|(name, value)| name == "PATH" && !value.is_empty()));
}

#[test]
fn lists_are_arrays_or_text_with_commas() {
    let expected = ["castle", "harbour"];
    let cases = [
        ("toml", "[game]\nmaps = ['castle', 'harbour']"),
        ("toml", "game.maps = 'castle, harbour'"),
        ("yaml", "game:\n  maps:\n    - castle\n    - harbour"),
        ("json", r#"{"game": {"maps": ["castle", "harbour"]}}"#),
    ];
    for (extension, text) in cases {
        assert_eq!(*by_file(extension, text).unwrap().get(&MAPS), expected, "{text}");
    }
    assert_eq!(*by_variables(&[("GAME_MAPS", "castle,harbour")]).unwrap().get(&MAPS), expected);
    assert!(by_file("toml", "game.maps = []").unwrap().get(&MAPS).is_empty());
    assert_eq!(*by_file("toml", "game.maps = ['a,b']").unwrap().get(&MAPS), ["a,b"], "an item of an array is whole");
}

#[test]
fn tables_of_texts_keep_the_case_of_their_names() {
    let expected = BTreeMap::from([("Region".to_owned(), "eu".to_owned()), ("a.b".to_owned(), "1".to_owned())]);
    let cases = [
        ("toml", "[game.labels]\nRegion = 'eu'\n'a.b' = 1"),
        ("toml", "[Game]\nTags = 'Region=eu, a.b=1'"),
        ("yaml", "game.labels.Region: eu\ngame.labels:\n  a.b: 1"),
        ("json", r#"{"game": {"labels": {"Region": "eu"}, "labels.a.b": 1}}"#),
    ];
    for (extension, text) in cases {
        assert_eq!(by_file(extension, text).unwrap().get(&LABELS), expected, "{text}");
    }
    assert_eq!(by_variables(&[("GAME_LABELS", "Region=eu,a.b=1")]).unwrap().get(&LABELS), expected);
    assert!(by_file("toml", "game.labels = {}").unwrap().get(&LABELS).is_empty());
}

#[test]
fn an_application_reads_its_own_settings_from_all_sources() {
    let config = by_file("toml", "[game]\nlives = 7\nspeed = 1.5\npiece = '64KiB'").unwrap();
    assert_eq!((config.get(&LIVES), config.get(&SPEED), config.get(&PIECE)), (7, Some(1.5), Size::kib(64)));
    let config = by_variables(&[("GAME_LIVES", "9"), ("GAME_SPEED", "none")]).unwrap();
    assert_eq!((config.get(&LIVES), config.get(&SPEED), config.get(&PIECE)), (9, None, Size(10)));
}

/// Written as they are shown, whatever their type.
#[test]
fn values_are_read_back_as_they_are_shown() {
    fn assert_read_back<T: Value + std::fmt::Debug>(values: impl IntoIterator<Item = T>) {
        for value in values {
            assert_eq!(T::parse(&value.show()), Some(value));
        }
    }
    assert_read_back(
        [0, 1, 999, 1_000, 59_999, 60_000, 90_000, 3_600_000, 21_600_000, 3_661_001].map(Duration::from_millis),
    );
    assert_read_back([Duration::from_nanos(1_500), Duration::from_secs(86_400)]);
    assert_read_back([0, 1, 1000, 1024, 1 << 20, 1 << 40].map(Size));
    assert_read_back([None, Some(0.25), Some(-3.0)]);
    assert_read_back([u16::MAX]);
    assert_read_back([List::<u64>::Owned(vec![]), List::Owned(vec![1, 2])]);
    assert_read_back([Map::new(), Map::from([("a".to_owned(), "b c".to_owned())])]);
    let shown = |seconds| Duration::from_secs(seconds).show();
    assert_eq!([shown(0), shown(10), shown(60), shown(90), shown(21_600)], ["0s", "10s", "1m", "1m30s", "6h"]);
}

/// The game's configuration may be in the same file; what is nearly ours is not the game's.
#[test]
fn keys_outside_of_pitaya_are_left_alone_unless_they_are_nearly_ours() {
    let text = "title = 'x'\n[database]\nurl = 'y'\n[[waves]]\norcs = 3\n[game]\nother = true\n[papaya]\nx = 1";
    assert_eq!(by_file("toml", text).unwrap().warnings(), []);
    for root in ["pitya", "pitayas", "Pitaia", "piatya"] {
        let errors = by_file("toml", &format!("{root}.heartbeat.interval = 3")).unwrap_err();
        let [ConfigError::Unknown { nearest, .. }] = &errors[..] else { panic!("{errors:?}") };
        assert_eq!(*nearest, Some("pitaya.heartbeat.interval"), "{root}");
    }
}

/// A table in which everything is commented out, and an empty file.
#[test]
fn sections_may_be_empty() {
    let files = [
        ("yaml", "pitaya:\n  heartbeat:\n  #  interval: 3s\n"),
        ("yaml", "# nothing\n"),
        ("toml", ""),
        ("toml", "[pitaya]\n[pitaya.heartbeat]\n[pitaya.cluster.sd.etcd]"),
        ("json", r#"{"pitaya": {"heartbeat": null, "buffer": {}}}"#),
    ];
    for (extension, text) in files {
        let config = by_file(extension, text).unwrap();
        assert!(config.report().lines().iter().all(|line| line.source == Source::Default), "{text}");
    }
}

/// A configuration of Go Pitaya, with parts that this server does not have, is taken over as it is.
#[tokio::test]
async fn keys_that_pitaya_has_and_this_server_has_not_are_warned_about_once() {
    let file = ConfigFile::new(
        "yaml",
        "pitaya:\n  cluster:\n    sd:\n      etcd:\n        syncServers:\n          interval: 10s\n  worker.retry.minDelay: 1\n  \
         metrics:\n    constTags: {a: x, b: y}\n    custom:\n      counters: [{name: n, help: h}]\n",
    );
    let (events, _guard) = logs();
    let built = described(|builder| {
        builder
            .config_file(file.path())
            .environment([("PITAYA_METRICS_STATSD_HOST", "h:1"), ("PITAYA_METRICS_CUSTOM", "{}")])
            .set_text("pitaya.worker.concurrency", "3")
    });
    let app = built.await.unwrap().app();
    let told: Vec<_> = app.config().warnings().iter().map(ToString::to_string).collect();
    let path = file.path().display();
    let expected = [
        format!("pitaya.cluster.sd.etcd.syncServers.interval in {path} is known, but without effect here"),
        format!("pitaya.worker.retry.minDelay in {path} is known, but without effect here"),
        format!("pitaya.metrics.constTags.a in {path} is known, but without effect here"),
        format!("pitaya.metrics.custom.counters in {path} is known, but without effect here"),
        "PITAYA_METRICS_CUSTOM in the environment is known, but without effect here".to_owned(),
        "PITAYA_METRICS_STATSD_HOST in the environment is known, but without effect here".to_owned(),
        "pitaya.worker.concurrency in code is known, but without effect here".to_owned(),
    ];
    assert_eq!(told, expected);
    let logged = events.all();
    for warning in expected {
        assert_eq!(logged.iter().filter(|line| **line == format!("WARN {warning}")).count(), 1, "{logged:?}");
    }
}

/// Kubernetes makes such variables for a service named pitaya.
#[test]
fn unknown_variables_are_only_warned_about() {
    let config = by_variables(&[
        ("PITAYA_SERVICE_HOST", "10.0.0.1"),
        ("PITAYA_HEARTBEAT_INTERVALL", "5s"),
        ("PITAYA_BUFFER_AGENT_CONNTIMOUT", "5s"),
        ("PITAYA_NOTHING", ""),
        ("GAME_LIVE", "1"),
        ("pitaya_heartbeat_interval", "5s"),
    ]);
    let told: Vec<_> = config.unwrap().warnings().iter().map(ToString::to_string).collect();
    let expected = [
        "the variable PITAYA_BUFFER_AGENT_CONNTIMOUT is no setting; did you mean PITAYA_BUFFER_AGENT_CONNTIMEOUT?",
        "the variable PITAYA_HEARTBEAT_INTERVALL is no setting; did you mean PITAYA_HEARTBEAT_INTERVAL?",
        "the variable PITAYA_SERVICE_HOST is no setting",
    ];
    assert_eq!(told, expected);
}

/// The words of the documentation, of Go, and of people (K41).
#[test]
fn compression_is_written_in_many_ways() {
    for (words, on) in
        [(["gzip", "zlib", "true", "on", "1", "GZIP"], true), (["none", "false", "off", "0", "None", "FALSE"], false)]
    {
        for word in words {
            let texts = [
                ("toml", format!("pitaya.handler.messages.compression = '{word}'")),
                ("yaml", format!("pitaya: {{handler: {{messages: {{compression: {word}}}}}}}")),
            ];
            for (extension, text) in texts {
                let config = by_file(extension, &text).unwrap();
                assert_eq!(config.get(&settings::COMPRESSION), on, "{text}");
            }
            let config = by_variables(&[("PITAYA_HANDLER_MESSAGES_COMPRESSION", word)]).unwrap();
            assert_eq!(config.get(&settings::COMPRESSION), on, "{word}");
        }
    }
    assert_eq!(settings::COMPRESSION.default_text(Some(pitaya::config::Preset::Docs2020)), "gzip");
}

/// A row that nobody has added is a mistake, also when its value is given as such.
#[tokio::test]
async fn a_setting_has_to_be_in_the_table() {
    let errors = super::config_errors(described(|builder| builder.set(&LIVES, 1)).await);
    assert_eq!(errors[0].to_string(), "unknown setting game.Lives in code");
    let known = described(|builder: ServerBuilder| builder.set(&LIVES, 1).settings([&LIVES as &dyn Row])).await;
    let known: Server = known.unwrap();
    assert_eq!(known.app().config().get(&LIVES), 1);
}

#[test]
fn warnings_can_be_told_apart() {
    let config = by_variables(&[("PITAYA_CLUSTER_INFO_REGION", "eu"), ("PITAYA_X", "1")]).unwrap();
    let [ConfigWarning::WithoutEffect { name, from }, ConfigWarning::UnknownVariable { nearest: None, .. }] =
        config.warnings()
    else {
        panic!("{:?}", config.warnings())
    };
    assert_eq!(name, "PITAYA_CLUSTER_INFO_REGION");
    assert_eq!(*from, Source::Environment { variable: name.clone() });
}
