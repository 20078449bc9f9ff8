//! The defaults under each preset, and how a preset is chosen.

use pitaya::{
    config::{PRESET, Preset, Source, Sources, Table},
    settings,
};

use super::all_rows;
use crate::support::ConfigFile;

/// All presets side by side: a change of a default is a change of `presets.txt`, which somebody has to see. A new row is one
/// new line of it.
#[test]
fn the_defaults_of_all_presets_are_those_of_the_table() {
    let columns = [None].into_iter().chain(Preset::ALL.map(Some));
    let line = |key: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("{cell:14} ")).collect();
        format!("{key:58} {}\n", cells.trim_end())
    };
    let mut table =
        line("key", columns.clone().map(|preset| preset.map_or("default", Preset::name).to_owned()).collect());
    table.extend(Table::new(all_rows()).rows().iter().map(|row| {
        let defaults = columns.clone().map(|preset| row.default_text(preset));
        line(row.name(), defaults.map(|text| if text.is_empty() { "(empty)".to_owned() } else { text }).collect())
    }));
    assert_eq!(include_str!("presets.txt"), table, "the table is now:\n\n{table}");
}

#[test]
fn a_preset_is_chosen_by_file_environment_and_code_and_switches_every_default() {
    let table = Table::new(all_rows());
    for preset in Preset::ALL {
        let file = ConfigFile::new("yaml", &format!("pitaya:\n  preset: {}", preset.name()));
        let (mut by_file, mut by_environment, mut by_code, mut by_text) =
            (Sources::default(), Sources::default(), Sources::default(), Sources::default());
        by_file.file(file.path());
        by_environment.environment([("PITAYA_PRESET", preset.name().to_uppercase())]);
        by_code.set_preset(preset);
        by_text.set_text("pitaya.preset", preset.name());
        for sources in [by_file, by_environment, by_code, by_text] {
            let config = table.resolve(sources).unwrap();
            assert_eq!(config.get(&PRESET), Some(preset));
            for (row, line) in table.rows().iter().zip(config.report().lines()).skip(1) {
                let shown = if row.is_secret() { "***".to_owned() } else { row.default_text(Some(preset)) };
                assert_eq!(line.value, shown, "{}", row.name());
                let own = row.has_default_of(preset);
                assert_eq!(line.source, if own { Source::Preset(preset) } else { Source::Default }, "{}", row.name());
            }
        }
    }
}

/// The preset itself follows the order of sources, and `none` takes it back.
#[test]
fn a_preset_of_a_file_can_be_taken_back() {
    let file = ConfigFile::toml("pitaya.preset = 'go-v2'");
    let with = |text: &str| {
        let mut sources = Sources::default();
        sources.file(file.path());
        sources.environment([("PITAYA_PRESET", text)]);
        Table::new(all_rows()).resolve(sources).unwrap()
    };
    assert_eq!(with("none").get(&settings::OUTBOX_MESSAGES), 16_384);
    assert_eq!(with("docs-2020").get(&settings::DISPATCH_CONCURRENCY), 15);
    assert_eq!(with("").get(&settings::DISPATCH_CONCURRENCY), 25, "an empty variable is not set");
}
