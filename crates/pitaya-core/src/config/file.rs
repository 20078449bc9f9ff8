//! Files of settings: TOML, YAML or JSON.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use serde_saphyr::{DuplicateKeyPolicy, UserMessageFormatter};

use super::{ConfigError, Node};

/// Longest file. One that is longer is no configuration.
const MAX_LEN: usize = 1 << 20;

/// Reads a file; the format is told by the extension.
pub(super) fn read(path: &Path) -> Result<Node, ConfigError> {
    let failed = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let parse = match extension.to_ascii_lowercase().as_str() {
        "toml" => toml,
        "yaml" | "yml" => yaml,
        "json" => json,
        _ => return Err(failed("a configuration file ends in .toml, .yaml, .yml or .json".to_owned())),
    };
    let bytes = bytes(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_LEN {
        return Err(failed("longer than 1 MiB".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed("is no UTF-8 text".to_owned()))?;
    // Some editors begin a file with a mark of its byte order.
    let text = text.trim_start_matches('\u{feff}');
    let node =
        parse(text).map_err(|Fault { line, message }| ConfigError::Syntax { path: path.to_owned(), line, message })?;
    match node {
        Node::Map(_) => Ok(node),
        // YAML: nothing but comments.
        Node::Text(text) if text.is_empty() => Ok(Node::Map(Vec::new())),
        Node::Text(_) | Node::List(_) => Err(failed("holds no table of settings".to_owned())),
    }
}

/// What is in a file, but not much more than is allowed.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_LEN as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is wrong in a file. Without the text of its line: that may be a secret.
struct Fault {
    line: usize,
    message: String,
}

fn toml(text: &str) -> Result<Node, Fault> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        Fault { line: before.matches('\n').count() + 1, message: error.message().to_owned() }
    })
}

fn yaml(text: &str) -> Result<Node, Fault> {
    // What is set twice is found out later, for files of every format alike.
    let options = serde_saphyr::options! { with_snippet: false, duplicate_keys: DuplicateKeyPolicy::PassThrough };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(1, |location| usize::try_from(location.line()).unwrap_or(1));
        Fault { line, message: without_place(error.render_with_formatter(&UserMessageFormatter)) }
    })
}

fn json(text: &str) -> Result<Node, Fault> {
    serde_json::from_str(text)
        .map_err(|error| Fault { line: error.line().max(1), message: without_place(error.to_string()) })
}

/// The place is told already.
fn without_place(mut message: String) -> String {
    if let Some(at) = message.rfind(" at line ") {
        message.truncate(at);
    }
    message
}
