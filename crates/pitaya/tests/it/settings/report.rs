//! What the effective configuration looks like, and what it hides.

use pitaya::{
    config::{Config, Preset, Row, Setting, Sources, Table, Text},
    settings,
};

use crate::support::ConfigFile;

static PASSWORD: Setting<Text> = Setting::new("game.password", Text::Borrowed("opensesame"), "For the database.")
    .secret()
    .checked(|password| if password.contains(' ') { Err("without spaces") } else { Ok(()) });

static PIN: Setting<u32> = Setting::new("game.pin", 1234, "For the door.").secret();

fn table() -> Table {
    Table::new([
        &settings::HEARTBEAT_INTERVAL as &dyn Row,
        &settings::OUTBOX_MESSAGES,
        &settings::PACKET_TIMEOUT,
        &PASSWORD,
    ])
}

#[test]
fn a_report_has_key_value_and_source_in_columns() {
    let file = ConfigFile::toml("[pitaya]\nheartbeat.interval = 75");
    let mut sources = Sources::default();
    sources.file(file.path());
    sources.environment([("PITAYA_PACKET_TIMEOUT", "1500ms"), ("GAME_PASSWORD", "hush")]);
    sources.set_preset(Preset::Docs2020);
    let config = table().resolve(sources).unwrap();
    let expected = format!(
        "\
key                           value      source
pitaya.preset                 docs-2020  code
pitaya.heartbeat.interval     1m15s      {}: pitaya.heartbeat.interval
pitaya.buffer.agent.messages  100        preset docs-2020
pitaya.packet.timeout         1.5s       PITAYA_PACKET_TIMEOUT
game.password                 ***        GAME_PASSWORD",
        file.path().display()
    );
    assert_eq!(config.report().to_string(), expected);
    assert!(config.report().lines()[1].doc.starts_with("Time between two heartbeats"));
    assert_eq!(config.get(&PASSWORD), "hush");
}

/// Not in reports, not in what is printed for debugging, and not in errors.
#[test]
fn secrets_are_shown_nowhere() {
    let secrets = ["opensesame", "hush-hush", "1234", "987x"];
    let assert_hidden = |text: String| {
        for secret in secrets {
            assert!(!text.contains(secret), "{text}");
        }
    };
    let table = Table::new([&PASSWORD as &dyn Row, &PIN]);
    let nothing = table.resolve(Sources::default()).unwrap();
    assert_hidden(format!("{} {nothing:?} {:?}", nothing.report(), nothing.report()));

    let mut sources = Sources::default();
    sources.environment([("GAME_PASSWORD", "hush-hush")]);
    sources.set_text("game.pin", "01234");
    assert_hidden(format!("{sources:?}"));
    let config: Config = table.resolve(sources).unwrap();
    assert_eq!((config.get(&PASSWORD).as_ref(), config.get(&PIN)), ("hush-hush", 1234));
    assert_hidden(format!("{} {config:?} {:?}", config.report(), config.report()));

    let file = ConfigFile::new("yaml", "game:\n  password: hush-hush hush-hush\n  pin: 987x");
    let mut sources = Sources::default();
    sources.file(file.path());
    sources.environment([("GAME_PIN", "987x")]);
    sources.set(&PASSWORD, Text::Borrowed("hush-hush in code"));
    let errors = table.resolve(sources).unwrap_err();
    assert_eq!(errors.len(), 4);
    for error in errors {
        assert!(error.to_string().contains(" = *** ("), "{error}");
        assert_hidden(format!("{error} {error:?}"));
    }

    // A file that cannot be read is not shown either.
    for (extension, text) in [
        ("toml", "[game]\npassword = hush-hush"),
        ("yaml", "game: {password: 'hush-hush"),
        ("json", "{\"game\": hush-hush"),
    ] {
        let file = ConfigFile::new(extension, text);
        let mut sources = Sources::default();
        sources.file(file.path());
        for error in table.resolve(sources).unwrap_err() {
            assert_hidden(format!("{error} {error:?}"));
        }
    }
}
