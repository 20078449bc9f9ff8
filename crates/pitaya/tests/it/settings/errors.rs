//! What is wrong in files, the environment and code is told: where, what, and what is allowed.

use pitaya::{
    config::{ConfigError, Row, Setting, Sources, Table, Text},
    settings,
};

use super::{config_errors, described};
use crate::support::ConfigFile;

static MOTTO: Setting<Text> = Setting::new("game.motto", Text::Borrowed(""), "What is said first.")
    .checked(|motto| if motto.starts_with('!') { Ok(()) } else { Err("something loud") });

fn errors(sources: Sources) -> Vec<ConfigError> {
    let table = Table::new(settings::rows().into_iter().chain([&MOTTO as &dyn Row]));
    table.resolve(sources).expect_err("something is wrong")
}

/// The errors of a file, with `game.toml` or the like for its path.
fn file_errors(extension: &str, text: &str) -> Vec<String> {
    let file = ConfigFile::new(extension, text);
    let mut sources = Sources::default();
    sources.file(file.path());
    let path = file.path().display().to_string();
    errors(sources).iter().map(|error| error.to_string().replace(&path, &format!("game.{extension}"))).collect()
}

#[test]
fn a_wrong_value_is_told_with_key_source_and_what_is_allowed() {
    let text = "[pitaya]\npreset = 'go-v4'\nHeartbeat.Interval = '1500ms'\npacket.maxsize = -1\n\
                packet.timeout = [1, 2]\nsession.unfinished = {a = 1, b = [2]}\nhandler.messages.compression = 'lzma'\n\
                shutdown.kick = ''";
    let mut told = file_errors("toml", text);
    told.sort_unstable();
    let expected = [
        "pitaya.handler.messages.compression = lzma (game.toml: pitaya.handler.messages.compression): \
         allowed is gzip, none, zlib, on, off, true or false",
        "pitaya.heartbeat.interval = 1500ms (game.toml: pitaya.Heartbeat.Interval): \
         allowed is whole seconds, at least 1s, at most ten years (clients read an integer)",
        "pitaya.packet.maxsize = -1 (game.toml: pitaya.packet.maxsize): \
         allowed is a size such as 64KiB, 1MB or a number of bytes",
        "pitaya.packet.timeout = [1, 2] (game.toml: pitaya.packet.timeout): \
         allowed is a duration such as 5s, 100ms or 1m30s, or a number of seconds",
        "pitaya.preset = go-v4 (game.toml: pitaya.preset): allowed is docs-2020, go-v2 or go-v3",
        "pitaya.session.unfinished = {a = 1, b = [2]} (game.toml: pitaya.session.unfinished): \
         allowed is a whole number",
        "pitaya.shutdown.kick = \"\" (game.toml: pitaya.shutdown.kick): allowed is true or false",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn all_sources_are_told_at_once_files_first() {
    let file = ConfigFile::toml("pitaya.heartbeat.interval = 'soon'\npitaya.heartbeat.intervall = 1");
    let built = described(|builder| {
        builder
            .set(&settings::SESSION_UNFINISHED, 0)
            .set_text("pitaya.buffer.agent.conntimeout", "0s")
            .set_text("database.url", "x")
            .environment([("PITAYA_HEARTBEAT_INTERVAL", "0"), ("PITAYA_BUFFER_AGENT_CONNTIMEOUT", "later")])
            .config_file("missing.toml")
            .config_file(file.path())
    });
    let told: Vec<_> = config_errors(built.await).iter().map(ToString::to_string).collect();
    let path = file.path().display();
    assert!(told[0].starts_with("missing.toml: cannot be read: "), "{told:?}");
    let expected = [
        format!("unknown setting pitaya.heartbeat.intervall in {path}; did you mean pitaya.heartbeat.interval?"),
        format!("pitaya.heartbeat.interval = soon ({path}: pitaya.heartbeat.interval): allowed is a duration such as 5s, 100ms or 1m30s, or a number of seconds"),
        "pitaya.heartbeat.interval = 0 (PITAYA_HEARTBEAT_INTERVAL): allowed is whole seconds, at least 1s, at most ten years (clients read an integer)".to_owned(),
        "pitaya.buffer.agent.writetimeout = later (PITAYA_BUFFER_AGENT_CONNTIMEOUT): allowed is a duration such as 5s, 100ms or 1m30s, or a number of seconds".to_owned(),
        "unknown setting database.url in code".to_owned(),
        "pitaya.session.unfinished = 0 (code): allowed is at least 1".to_owned(),
        "pitaya.buffer.agent.writetimeout = 0s (code): allowed is more than zero, at most ten years".to_owned(),
    ];
    assert_eq!(told[1..], expected);
}

#[test]
fn a_syntax_error_is_told_with_path_and_line() {
    let cases = [
        ("toml", "[pitaya]\nheartbeat.interval = \n", 2),
        ("toml", "pitaya.packet.timeout = 1\npitaya.packet.timeout = 2\n", 2),
        ("yaml", "pitaya:\n  heartbeat: 'x\n", 2),
        ("yaml", "a: 1\nb: [1, 2\nc: 3\n", 2),
        ("json", "{\n\"pitaya\": {\n\"preset\": }\n}", 3),
        ("json", "", 1),
        ("yaml", "a: *b\n", 1),
    ];
    for (extension, text, line) in cases {
        let told = file_errors(extension, text);
        let [told] = &told[..] else { panic!("{told:?}") };
        // An unfinished text or array is told where it begins or where it is found out.
        let lines = [line, line + 1].map(|line| format!("game.{extension}:{line}: "));
        assert!(lines.iter().any(|start| told.starts_with(start.as_str())), "{text:?}: {told}");
        assert!(!told.contains('\n') && !told.contains(" line "), "{told}");
    }
}

#[test]
fn a_file_that_is_no_configuration_is_refused() {
    assert_eq!(file_errors("ini", "x = 1"), ["game.ini: a configuration file ends in .toml, .yaml, .yml or .json"]);
    assert_eq!(file_errors("json", "[1]"), ["game.json: holds no table of settings"]);
    assert_eq!(file_errors("yaml", "just text"), ["game.yaml: holds no table of settings"]);
    let long = format!("# {}\n", "x".repeat(1 << 20));
    assert_eq!(file_errors("toml", &long), ["game.toml: longer than 1 MiB"]);
    let mut sources = Sources::default();
    sources.file(env!("CARGO_TARGET_TMPDIR").to_owned() + "/no.such.yaml");
    assert!(matches!(&errors(sources)[..], [ConfigError::File { .. }]));
    // At the limit it is read.
    let longest = format!("#{}\npitaya.preset = 1", "x".repeat((1 << 20) - 19));
    assert_eq!(longest.len(), 1 << 20);
    assert!(file_errors("toml", &longest)[0].starts_with("pitaya.preset = 1 "));
}

/// Which of the two was meant nobody can know.
#[test]
fn two_spellings_of_one_setting_in_one_source_are_refused() {
    let twice = |place: &str, first: &str, second: &str| {
        format!("pitaya.buffer.agent.writetimeout is set twice in {place}: as {first} and as {second}")
    };
    let (own, alias) = ("pitaya.buffer.agent.writetimeout", "pitaya.buffer.agent.conntimeout");
    for (extension, text) in
        [("yaml", format!("{own}: 1s\n{alias}: 1s")), ("json", format!(r#"{{"{own}": 1, "{alias}": 1}}"#))]
    {
        assert_eq!(file_errors(extension, &text), [twice(&format!("game.{extension}"), own, alias)]);
    }
    // One spelling in two cases, and nested as well as dotted.
    let text = "pitaya:\n  buffer.agent.writeTimeout: 1s\npitaya.buffer.agent.writetimeout: 1s";
    assert_eq!(file_errors("yaml", text), [twice("game.yaml", "pitaya.buffer.agent.writeTimeout", own)]);

    // Not seen by the parsers of these two.
    let twice_alike = |extension| format!("pitaya.preset is set twice in game.{extension}");
    assert_eq!(file_errors("yaml", "pitaya.preset: go-v2\npitaya.preset: go-v3"), [twice_alike("yaml")]);
    assert_eq!(file_errors("json", r#"{"pitaya": {"preset": "go-v2", "preset": "go-v2"}}"#), [twice_alike("json")]);

    let mut sources = Sources::default();
    sources.environment([("PITAYA_BUFFER_AGENT_WRITETIMEOUT", "1s"), ("PITAYA_BUFFER_AGENT_CONNTIMEOUT", "1s")]);
    let variables = ["PITAYA_BUFFER_AGENT_WRITETIMEOUT", "PITAYA_BUFFER_AGENT_CONNTIMEOUT"];
    assert_eq!(errors(sources)[0].to_string(), twice("the environment", variables[0], variables[1]));

    let mut sources = Sources::default();
    sources.set_text(alias, "1s");
    sources.set(&settings::WRITE_TIMEOUT, std::time::Duration::from_secs(1));
    assert_eq!(errors(sources)[0].to_string(), twice("code", alias, own));

    // In two sources it is two sources' business.
    let file = ConfigFile::toml(&format!("{own} = 1"));
    let mut sources = Sources::default();
    sources.file(file.path());
    sources.environment([("PITAYA_BUFFER_AGENT_CONNTIMEOUT", "2s")]);
    let config = Table::new(settings::rows()).resolve(sources).unwrap();
    assert_eq!(config.get(&settings::WRITE_TIMEOUT).as_secs(), 2);
}

static SAME: Setting<usize> = Setting::new("pitaya.heartbeat_interval", 1, "Has the variable of another.");
static ALSO: Setting<usize> = Setting::new("game.also", 1, "Has an alias of another.").aliases(&["game.motto"]);

#[test]
fn two_settings_that_cannot_be_told_apart_are_refused() {
    for (row, name) in
        [(&SAME as &'static dyn Row, "pitaya.heartbeat_interval"), (&ALSO, "game.motto"), (&MOTTO, "game.motto")]
    {
        let table = Table::new(settings::rows().into_iter().chain([&MOTTO as &dyn Row, row]));
        assert_eq!(table.resolve(Sources::default()).unwrap_err(), [ConfigError::Duplicate { name }]);
    }
}

#[test]
fn long_and_odd_values_are_told_on_one_readable_line() {
    let mut sources = Sources::default();
    sources.environment([("GAME_MOTTO", "x".repeat(5000))]);
    sources.set_text("game.motto", "one\ntwo");
    let told: Vec<_> = errors(sources).iter().map(ToString::to_string).collect();
    assert_eq!(told[0], format!("game.motto = {}… (GAME_MOTTO): allowed is something loud", "x".repeat(100)));
    assert_eq!(told[1], "game.motto = \"one\\ntwo\" (code): allowed is something loud");
}

/// A value in the place of a table, and a table in the place of a value.
#[test]
fn values_and_tables_are_not_mixed_up() {
    assert_eq!(file_errors("toml", "pitaya.heartbeat = 3"), ["unknown setting pitaya.heartbeat in game.toml"]);
    assert_eq!(file_errors("toml", "pitaya = 3"), ["unknown setting pitaya in game.toml"]);
    assert_eq!(
        file_errors("toml", "pitaya.packet.timeout.seconds = 3"),
        ["pitaya.packet.timeout = {seconds = 3} (game.toml: pitaya.packet.timeout): \
          allowed is a duration such as 5s, 100ms or 1m30s, or a number of seconds"]
    );
}

/// What stands in a wrong place of a file may be a password.
#[test]
fn a_syntax_error_shows_nothing_of_the_line() {
    let cases = [
        ("yaml", "password: *hunter2\n"),
        ("yaml", "password: !hunter2 x\n"),
        ("yaml", "password: !!hunter2 x\n"),
        ("yaml", "password: @hunter2\n"),
        ("yaml", "password: %hunter2\n"),
        ("yaml", "password: `hunter2\n"),
        ("yaml", "password: |hunter2\n"),
        ("yaml", "password: hunter2: x\n"),
        ("yaml", "password: \"hunter2\\q\"\n"),
        ("yaml", "password: 'hunter2\n"),
        ("yaml", "password: &hunter2 *hunter2\n"),
        ("yaml", "password: !!int hunter2\n"),
        ("yaml", "password: !!bool hunter2\n"),
        ("yaml", "password: !!float hunter2\n"),
        ("yaml", "password: !!null hunter2\n"),
        ("yaml", "password: !!binary hunter2\n"),
        ("yaml", "? {hunter2: 1}\n: 2\n"),
        ("toml", "password = hunter2\n"),
        ("toml", "password = 'hunter2\n"),
        ("toml", "password = \"hunter2\\q\"\n"),
        ("toml", "password = 'x' hunter2\n"),
        ("toml", "password = 1hunter2\n"),
        ("toml", "hunter2\n"),
        ("json", r#"{"password": hunter2}"#),
        ("json", r#"{"password": "hunter2\q"}"#),
        ("json", r#"{"password": "hunter2"#),
        ("json", r#"{"password": "x" "hunter2"}"#),
    ];
    for (extension, text) in cases {
        let file = ConfigFile::new(extension, text);
        let mut sources = Sources::default();
        sources.file(file.path());
        let told: Vec<_> = match Table::new(settings::rows()).resolve(sources) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        assert!(told.iter().all(|told| !told.contains("hunter")), "{text:?}: {told:?}");
    }
}
