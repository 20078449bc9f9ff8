//! From what sources say to the values that count.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use super::{
    Config, ConfigError, ConfigWarning, Node, PRESET, Row, Source, Table, Typed, file, known,
    source::InCode,
    table::{Place, variable},
};

/// Takes the sources one by one, those that win last.
pub(super) struct Resolution<'a> {
    table: &'a Table,
    set: BTreeMap<&'static str, (Typed, Source)>,
    problems: Vec<ConfigError>,
    warnings: Vec<ConfigWarning>,
}

impl<'a> Resolution<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        Self { table, set: BTreeMap::new(), problems: table.duplicates(), warnings: Vec::new() }
    }

    pub(super) fn file(&mut self, path: &Path) {
        let node = match file::read(path) {
            Ok(node) => node,
            Err(problem) => return self.problems.push(problem),
        };
        let path: Arc<Path> = path.into();
        let source = |key: &str| Source::File { path: Arc::clone(&path), key: key.to_owned() };
        let mut layer = Layer::default();
        for (key, node) in node.leaves() {
            match self.table.locate(&key) {
                // Nothing but comments in it.
                Place::Section if node == Node::text("") => {}
                Place::Foreign => {}
                place => self.take_text(&mut layer, &place, &key, node, &source),
            }
        }
        self.take_layer(layer, source);
    }

    pub(super) fn environment(&mut self, variables: Vec<(String, String)>) {
        let mut variables: HashMap<_, _> = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let source = |variable: &str| Source::Environment { variable: variable.to_owned() };
        let mut layer = Layer::default();
        for (spelling, row) in self.table.spellings() {
            let name = variable(spelling);
            if let Some(value) = variables.remove(&name) {
                let twice = layer.add(row, &name, None, Said::Node(Node::Text(value)));
                self.problems.extend(twice.err().map(|twice| twice.error(row, &source(&name))));
            }
        }
        self.take_layer(layer, source);
        let mut rest: Vec<_> = variables.into_keys().filter(|name| name.starts_with("PITAYA_")).collect();
        rest.sort_unstable();
        self.warnings.extend(rest.into_iter().map(|name| {
            if known::has_variable(&name) {
                ConfigWarning::WithoutEffect { from: source(&name), name }
            } else {
                let key = name.to_ascii_lowercase().replace('_', ".");
                ConfigWarning::UnknownVariable { nearest: self.table.nearest(&key).map(variable), name }
            }
        }));
    }

    pub(super) fn code(&mut self, said: Vec<InCode>) {
        let source = |_: &str| Source::Code;
        let mut layer = Layer { last_wins: true, ..Layer::default() };
        for said in said {
            match said {
                InCode::Text { name, text } => {
                    let place = self.table.locate(&name);
                    self.take_text(&mut layer, &place, &name, Node::Text(text), &source);
                }
                InCode::Typed { row, .. } if self.table.find(row.name()).is_none() => {
                    self.unknown(row.name(), Source::Code)
                }
                InCode::Typed { row, value } => {
                    let twice = layer.add(row, row.name(), None, Said::Typed(value));
                    self.problems.extend(twice.err().map(|twice| twice.error(row, &Source::Code)));
                }
            }
        }
        self.take_layer(layer, source);
    }

    pub(super) fn finish(self) -> Result<Config, Vec<ConfigError>> {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let config = Config { table: self.table.clone(), preset: None, set: self.set, warnings: self.warnings };
        let preset = config.get(&PRESET);
        Ok(Config { preset, ..config })
    }

    /// Puts what a source says about a key where it belongs.
    fn take_text(&mut self, layer: &mut Layer, place: &Place, key: &str, node: Node, source: &dyn Fn(&str) -> Source) {
        match *place {
            Place::Row { row, len } => {
                let (spelling, below) = (&key[..len], key.get(len + 1..));
                if let Err(twice) = layer.add(row, spelling, below, Said::Node(node)) {
                    self.problems.push(twice.error(row, &source(key)));
                }
            }
            Place::Known(name) => {
                if layer.noted.insert(name) {
                    self.warnings.push(ConfigWarning::WithoutEffect { name: key.to_owned(), from: source(key) });
                }
            }
            Place::Section | Place::Foreign | Place::Unknown => self.unknown(key, source(key)),
        }
    }

    fn unknown(&mut self, name: &str, from: Source) {
        let nearest = self.table.nearest(name);
        self.problems.push(ConfigError::Unknown { name: name.to_owned(), from, nearest });
    }

    /// Checks what a source says, and lets it win over all sources before.
    fn take_layer(&mut self, layer: Layer, source: impl Fn(&str) -> Source) {
        for Entry { row, spelling, said } in layer.entries {
            let value = match said {
                Said::Node(node) => row.read(&node).map_err(|allowed| (node.to_string(), allowed)),
                Said::Typed(value) => value,
            };
            match value {
                Ok(typed) => drop(self.set.insert(row.name(), (typed, source(&spelling)))),
                Err((shown, allowed)) => {
                    self.problems.push(ConfigError::invalid(row, source(&spelling), shown, allowed));
                }
            }
        }
    }
}

/// What one source says about settings.
#[derive(Default)]
struct Layer {
    entries: Vec<Entry>,
    /// The known names without a row that have been warned about.
    noted: HashSet<&'static str>,
    /// Whether saying something again is allowed.
    last_wins: bool,
}

/// What one source says about one setting.
struct Entry {
    row: &'static dyn Row,
    spelling: String,
    said: Said,
}

enum Said {
    Node(Node),
    Typed(Result<Typed, (String, String)>),
}

impl Layer {
    /// `below` is what stands in the key behind the name of the row: the value is a table then, of which this is an entry.
    fn add(&mut self, row: &'static dyn Row, spelling: &str, below: Option<&str>, said: Said) -> Result<(), Twice> {
        let said = match (said, below) {
            (Said::Node(node), Some(below)) => Said::Node(Node::Map(vec![(below.to_owned(), node)])),
            (said, _) => said,
        };
        let Some(before) = self.entries.iter_mut().rfind(|entry| entry.row.name() == row.name()) else {
            self.entries.push(Entry { row, spelling: spelling.to_owned(), said });
            return Ok(());
        };
        let twice = Twice { first: before.spelling.clone(), second: spelling.to_owned() };
        if !before.spelling.eq_ignore_ascii_case(spelling) {
            return Err(twice);
        }
        match (&mut before.said, said) {
            (Said::Node(Node::Map(entries)), Said::Node(Node::Map(more))) if !same_name(entries, &more) => {
                entries.extend(more);
            }
            // What does not win has to be right, too.
            (_, said) if self.last_wins => self.entries.push(Entry { row, spelling: twice.second, said }),
            _ => return Err(twice),
        }
        Ok(())
    }
}

fn same_name(entries: &[(String, Node)], more: &[(String, Node)]) -> bool {
    more.iter().any(|(name, _)| entries.iter().any(|(other, _)| other == name))
}

/// Two spellings of one setting.
struct Twice {
    first: String,
    second: String,
}

impl Twice {
    fn error(self, row: &dyn Row, source: &Source) -> ConfigError {
        ConfigError::Twice { name: row.name(), place: source.place(), first: self.first, second: self.second }
    }
}
