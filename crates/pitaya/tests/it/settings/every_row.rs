//! Each row of the table can be set in each way, by each of its names.

use pitaya::config::{Config, Node, Row, Source, Sources, Table};
use serde_json::{Map, Value};

use super::all_rows;
use crate::support::ConfigFile;

fn table() -> Table {
    Table::new(all_rows())
}

/// A value that is allowed, and nobody's default.
fn example(row: &dyn Row) -> &'static str {
    let candidates = ["33s", "1111", "true", "false", "none", "gzip", "go-v2", "a,b", "a=b", "77"];
    let defaults = [None].into_iter().chain(pitaya::config::Preset::ALL.map(Some)).map(|of| row.default_text(of));
    let defaults: Vec<_> = defaults.collect();
    let changes = |text: &&str| {
        let read = row.read(&Node::text(*text));
        read.is_ok_and(|typed| typed.text() == *text && typed.text() != defaults[0])
    };
    candidates.into_iter().find(changes).unwrap_or_else(|| panic!("{}: none of {candidates:?} will do", row.name()))
}

/// All rows with their names: each row once by its own, and once more by each alias.
fn names() -> Vec<Vec<(&'static str, &'static dyn Row)>> {
    let canonical = table().rows().iter().map(|row| (row.name(), *row)).collect();
    let rows = table().rows().to_vec();
    let aliases = rows.iter().flat_map(|row| row.aliases().iter().map(|alias| vec![(*alias, *row)]));
    [canonical].into_iter().chain(aliases).collect()
}

/// Every row has its example, from the source that its name says.
fn assert_set(sources: Sources, names: &[(&str, &dyn Row)], source: impl Fn(&str) -> Source) {
    let config = table().resolve(sources).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(config.warnings(), []);
    let report = config.report();
    for (name, row) in names {
        let line = report.lines().iter().find(|line| line.key == row.name()).unwrap();
        let shown = if row.is_secret() { "***" } else { example(*row) };
        assert_eq!((line.value.as_str(), &line.source), (shown, &source(name)), "{name}");
    }
}

fn assert_set_by_file(extension: &str, text: &str, names: &[(&str, &dyn Row)], written: impl Fn(&str) -> String) {
    let file = ConfigFile::new(extension, text);
    let mut sources = Sources::default();
    sources.file(file.path());
    assert_set(sources, names, |name| Source::File { path: file.path().into(), key: written(name) });
}

/// The examples as nested tables.
fn tree(names: &[(&str, &dyn Row)]) -> Map<String, Value> {
    let mut tree = Map::new();
    for (name, row) in names {
        let (tables, last) = name.rsplit_once('.').unwrap();
        let start = &mut tree;
        let table = tables.split('.').fold(start, |table, name| {
            table.entry(name).or_insert_with(|| Value::Object(Map::new())).as_object_mut().unwrap()
        });
        table.insert(last.to_owned(), example(*row).into());
    }
    tree
}

/// The tree as YAML and TOML would have it, in their plainest forms.
fn yaml(tree: &Map<String, Value>, indent: usize) -> String {
    let line = |(name, value): (&String, &Value)| match value {
        Value::Object(table) => format!("{:indent$}{name}:\n{}", "", yaml(table, indent + 2)),
        value => format!("{:indent$}{name}: {}\n", "", value.as_str().unwrap()),
    };
    tree.iter().map(line).collect()
}

fn toml(tree: &Map<String, Value>, path: &str) -> String {
    let (tables, values): (Vec<_>, Vec<_>) = tree.iter().partition(|(_, value)| value.is_object());
    let mut text = if path.is_empty() { String::new() } else { format!("[{path}]\n") };
    text.extend(values.iter().map(|(name, value)| format!("{name} = {value}\n")));
    text.extend(tables.iter().map(|(name, table)| {
        let path = if path.is_empty() { (*name).clone() } else { format!("{path}.{name}") };
        toml(table.as_object().unwrap(), &path)
    }));
    text
}

#[test]
fn by_files_with_nested_tables() {
    for names in names() {
        let tree = tree(&names);
        assert_set_by_file("toml", &toml(&tree, ""), &names, str::to_owned);
        assert_set_by_file("yaml", &yaml(&tree, 0), &names, str::to_owned);
        assert_set_by_file("yml", &yaml(&tree, 0), &names, str::to_owned);
        assert_set_by_file("json", &Value::Object(tree).to_string(), &names, str::to_owned);
    }
}

#[test]
fn by_files_with_dotted_keys_in_any_case() {
    for names in names() {
        let lines = |between: &str, quote: char| -> String {
            let line = |(name, row): &(&str, &dyn Row)| {
                format!("{}{between}{quote}{}{quote}\n", name.to_uppercase(), example(*row))
            };
            names.iter().map(line).collect()
        };
        assert_set_by_file("toml", &lines(" = ", '"'), &names, str::to_uppercase);
        assert_set_by_file("yaml", &lines(": ", '\''), &names, str::to_uppercase);
        let flat: Map<String, Value> =
            names.iter().map(|(name, row)| (name.to_uppercase(), example(*row).into())).collect();
        assert_set_by_file("json", &Value::Object(flat).to_string(), &names, str::to_uppercase);
    }
}

/// As numbers and truth values, where the format has them.
#[test]
fn by_files_without_quotes() {
    let typed = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    let names = names().remove(0);
    let mut lines: String = names.iter().map(|(name, row)| format!("{name} = {}\n", typed(example(*row)))).collect();
    assert!(lines.contains(" = 1111\n") && lines.contains(" = true\n"));
    assert_set_by_file("toml", &lines, &names, str::to_owned);
    lines = lines.replace(" = ", ": ");
    assert_set_by_file("yaml", &lines, &names, str::to_owned);
    let object: Map<String, Value> =
        names.iter().map(|(name, row)| ((*name).to_owned(), typed(example(*row)))).collect();
    assert_set_by_file("json", &Value::Object(object).to_string(), &names, str::to_owned);
}

#[test]
fn by_the_environment() {
    let variable = |name: &str| name.replace('.', "_").to_uppercase();
    assert_eq!(variable("pitaya.heartbeat.interval"), "PITAYA_HEARTBEAT_INTERVAL");
    for names in names() {
        let mut sources = Sources::default();
        sources.environment(names.iter().map(|(name, row)| (variable(name), example(*row))));
        assert_set(sources, &names, |name| Source::Environment { variable: variable(name) });
    }
}

#[test]
fn in_code() {
    for names in names() {
        for spelled in [str::to_owned, str::to_uppercase] {
            let mut sources = Sources::default();
            names.iter().for_each(|(name, row)| sources.set_text(spelled(name), example(*row)));
            assert_set(sources, &names, |_| Source::Code);
        }
    }
}

/// What is shown can be written: no value is lost between a report and a file.
#[test]
fn defaults_are_written_as_they_are_read() {
    for row in table().rows() {
        for preset in [None].into_iter().chain(pitaya::config::Preset::ALL.map(Some)) {
            let text = row.default_text(preset);
            let read =
                row.read(&Node::text(text.as_str())).unwrap_or_else(|allowed| panic!("{}: {allowed}", row.name()));
            assert_eq!(read.text(), text, "{}", row.name());
        }
    }
    let nothing: Config = table().resolve(Sources::default()).unwrap();
    assert!(nothing.report().lines().iter().all(|line| line.source == Source::Default));
}
