//! The program is run as a user runs it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

fn run(files: &[&str], variables: &[(&str, &str)]) -> Output {
    let folder = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new(env!("CARGO_BIN_EXE_settings"));
    command.current_dir(folder).env_clear().args(files).envs(variables.iter().copied()).output().unwrap()
}

/// Value and source of a key in the report.
fn line(output: &Output, key: &str) -> Option<(String, String)> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(key))?;
    let mut columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty()).skip(1);
    Some((columns.next()?.to_owned(), columns.next()?.to_owned()))
}

#[test]
fn each_value_has_its_source_and_secrets_are_hidden() {
    let output = run(&["game.toml"], &[("PITAYA_HEARTBEAT_INTERVAL", "5s"), ("GAME_PASSWORD", "hush-hush")]);
    assert!(output.status.success(), "{output:?}");
    let expected = [
        ("pitaya.preset", "go-v3", "game.toml: pitaya.preset"),
        ("pitaya.heartbeat.interval", "5s", "PITAYA_HEARTBEAT_INTERVAL"),
        ("pitaya.buffer.agent.messages", "2000", "game.toml: pitaya.buffer.agent.messages"),
        ("pitaya.concurrency.handler.dispatch", "25", "preset go-v3"),
        ("pitaya.packet.maxsize", "64KiB", "default"),
        ("game.round", "1m30s", "game.toml: game.round"),
        ("game.maps", "castle,harbour", "game.toml: game.maps"),
        ("game.password", "***", "GAME_PASSWORD"),
    ];
    for (key, value, source) in expected {
        assert_eq!(line(&output, key), Some((value.to_owned(), source.to_owned())), "{key}");
    }
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("A round lasts 90s, on one of 2 maps.\n"), "{text}");
    assert!(!text.contains("hush"));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let output = run(&["missing.toml"], &[("GAME_ROUND", "0s"), ("PITAYA_PRESET", "go-v4")]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(lines[0], "3 problems:");
    assert!(lines[1].starts_with("- missing.toml: cannot be read: "), "{text}");
    assert_eq!(lines[2], "- pitaya.preset = go-v4 (PITAYA_PRESET): allowed is docs-2020, go-v2 or go-v3");
    assert_eq!(lines[3], "- game.round = 0s (GAME_ROUND): allowed is more than zero");
}
