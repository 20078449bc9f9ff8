//! Where and from what the figures came.

use super::Result;
use std::process::Command;

/// The facts that a reader needs to judge the figures.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) compiler: String,
    pub(crate) cpu: String,
    pub(crate) kernel: String,
    pub(crate) load: String,
}

impl Machine {
    /// Whether others have used a good part of a core during the last minute.
    pub(crate) fn is_busy(&self) -> bool {
        let minute = self.load.split_whitespace().next().and_then(|text| text.parse::<f64>().ok());
        minute.is_some_and(|load| load > 0.5)
    }
}

/// Asks the system and git.
pub(crate) fn describe() -> Result<Machine> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown CPU", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let mut commit = output("git", &["rev-parse", "HEAD"])?;
    if !output("git", &["status", "--porcelain"])?.is_empty() {
        commit.push_str(" with uncommitted changes");
    }
    Ok(Machine {
        date: output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?,
        commit,
        compiler: output("rustc", &["--version"])?,
        cpu: format!("{model}, {cores} cores"),
        kernel: read("/proc/sys/kernel/osrelease")?,
        load: read("/proc/loadavg")?,
    })
}

/// The head of a part of `docs/benchmarks.md`.
pub(crate) fn head(machine: &Machine, benchmark: &str, args: &[&str]) -> String {
    format!(
        "Written by `cargo xtask bench {}`; do not edit.\n\n- date: {}\n- commit: {}\n- compiler: {}\n- machine: {}\n\
         - kernel: {}\n- load average before the run: {}\n",
        [&[benchmark], args].concat().join(" "),
        machine.date,
        machine.commit,
        machine.compiler,
        machine.cpu,
        machine.kernel,
        machine.load,
    )
}

fn read(path: &str) -> Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} {args:?}: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
