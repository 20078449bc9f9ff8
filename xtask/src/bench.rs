//! Benchmarks: our server against the hand-written limit server.

mod broadcast;
mod build;
mod calibration;
mod case;
mod cluster;
mod cpu;
mod crowd;
mod estimate;
mod idle;
mod instructions;
mod load;
mod machine;
mod memory;
mod options;
mod process;
mod record;
mod report;
mod rounds;
mod server;
mod standalone;

use crate::Outcome;
use build::Programs;
use calibration::Calibration;
use case::{Case, Transport};
use machine::Machine;
use options::Options;
use report::{CaseReport, Report};
use std::error::Error;
use std::process::Command;

/// The result of a step that may fail in any way: the message is all that a user of xtask needs.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Compares CPU time and latency at a fixed rate, see [`rounds`] and [`estimate`].
pub(crate) fn standalone(args: &[&str]) -> Outcome {
    let options = Options::parse(args)?;
    let programs = Programs::build(options.self_check)?;
    // Before the run: afterwards the load would be our own.
    let machine = describe()?;

    let mut calibrations = Vec::new();
    for transport in [Transport::Tcp, Transport::WebSocket] {
        let calibration = Calibration::measure(&programs, transport, &options)?;
        eprintln!("{calibration}");
        calibrations.push(calibration);
    }
    let mut cases = Vec::new();
    for case in Case::ALL {
        let calibration = calibrations.iter().find(|one| one.transport == case.transport());
        let rate = calibration.ok_or("a transport was not calibrated")?.rate();
        eprintln!("{}: {} slices at {rate:.0} requests per second", case.name(), options.slices);
        let slices = rounds::run(&programs, case, rate, &options)?;
        let report = CaseReport::new(case, rate, slices, options.self_check)?;
        if options.json {
            println!("{}", report.json()?);
        }
        cases.push(report);
    }

    let report = Report { calibrations, cases };
    if !options.json {
        print!("{}", report.table());
    }
    if options.record {
        let path = record::write("standalone", &standalone::markdown(&report, &machine, args)?)?;
        eprintln!("wrote {}", path.display());
    }
    let complaints = report.complaints();
    for complaint in &complaints {
        eprintln!("NOT MET: {complaint}");
    }
    Ok(complaints.is_empty())
}

/// Measures what connections cost that do little, see [`mod@idle`].
pub(crate) fn idle(args: &[&str]) -> Outcome {
    let options = Options::parse(args)?;
    let programs = Programs::build(false)?;
    idle::run(&programs, &options, &describe()?, args)
}

/// Compares broadcasts, see [`mod@broadcast`].
pub(crate) fn broadcast(args: &[&str]) -> Outcome {
    let options = Options::parse(args)?;
    let programs = Programs::build(options.self_check)?;
    broadcast::run(&programs, &options, &describe()?, args)
}

/// Compares a frontend with its backend, see [`mod@cluster`].
pub(crate) fn cluster(args: &[&str]) -> Outcome {
    let options = Options::parse(args)?;
    let programs = Programs::build(options.self_check)?;
    cluster::run(&programs, &options, &describe()?, args)
}

/// Lets clients come, misbehave and go, and looks for what the server does not give back.
pub(crate) fn soak(args: &[&str]) -> Outcome {
    let programs = Programs::build(false)?;
    let mut soak = Command::new(&programs.soak);
    Ok(soak.arg("--server").arg(&programs.ours).args(args).status()?.success())
}

/// Describes the machine as it is before the run, and warns if others use it.
fn describe() -> Result<Machine> {
    let machine = machine::describe()?;
    if machine.is_busy() {
        eprintln!("the machine is busy, the figures will be rough: load {}", machine.load);
    }
    Ok(machine)
}

/// Counts the instructions that one request takes, for regressions.
pub(crate) fn instructions(args: &[&str]) -> Outcome {
    let options = Options::parse(args)?;
    let programs = Programs::build(options.self_check)?;
    instructions::run(&programs, &options)?;
    Ok(true)
}
