//! Builds the programs of the benchmark and finds them.

use super::Result;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The programs, in release mode.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The hand-written limit server.
    pub(crate) limit: PathBuf,
    /// The server under test.
    pub(crate) ours: PathBuf,
    /// The hand-written frontend and backend.
    pub(crate) limit_pair: PathBuf,
    /// The frontend and backend under test.
    pub(crate) our_pair: PathBuf,
    /// A nats-server and an etcd.
    pub(crate) services: PathBuf,
    /// The load generator.
    pub(crate) load: PathBuf,
    /// Thousands of clients that are mostly quiet.
    pub(crate) crowd: PathBuf,
    /// Clients that come, misbehave and go.
    pub(crate) soak: PathBuf,
}

impl Programs {
    /// Builds the package `pitaya-bench`. With `self_check` the limit takes our place.
    pub(crate) fn build(self_check: bool) -> Result<Self> {
        // Cargo itself says where it puts the programs, so no target directory is guessed.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["build", "--release", "--package", "pitaya-bench"])
            .args(["--message-format", "json-render-diagnostics"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err("the build failed".into());
        }
        let messages = String::from_utf8(output.stdout)?;
        let find = |name| {
            messages
                .lines()
                .find_map(|message| executable(message, name))
                .ok_or_else(|| format!("the package pitaya-bench has no program `{name}`"))
        };
        let limit = find("limit-server")?;
        let ours = if self_check { limit.clone() } else { find("bench-server")? };
        let limit_pair = find("limit-pair")?;
        let our_pair = if self_check { limit_pair.clone() } else { find("bench-pair")? };
        Ok(Self {
            limit,
            ours,
            limit_pair,
            our_pair,
            services: find("services")?,
            load: find("load")?,
            crowd: find("crowd")?,
            soak: find("soak")?,
        })
    }
}

/// The path of the program `name`, if cargo's message tells it.
fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["target"]["name"] != name {
        return None;
    }
    message["executable"].as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","target":{"name":"load"},"executable":"t/load"}"#;
        assert_eq!(executable(message, "load"), Some(PathBuf::from("t/load")));
        assert_eq!(executable(message, "limit-server"), None);
        assert_eq!(executable(r#"{"reason":"build-finished"}"#, "load"), None);
    }
}
