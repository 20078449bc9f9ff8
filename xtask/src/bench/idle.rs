//! What connections cost that do little: memory, the bind of their users, and the requests of others.

mod bound;
mod crowded;
mod memory;
mod report;

use super::build::Programs;
use super::case::Transport;
use super::machine::{self, Machine};
use super::options::Options;
use super::{Result, record};
use report::Report;

/// Measures what a bound user adds on a frontend of a cluster.
fn on_nats(programs: &Programs, options: &Options, machine: &Machine, args: &[&str]) -> Result<bool> {
    eprintln!("nats: {} users", options.idle);
    let bound = bound::measure(programs, options)?;
    if options.json {
        println!("{}", bound.json());
    } else {
        print!("{}", bound.table());
    }
    if options.record {
        let head = machine::head(machine, "idle", args);
        let text = format!("{head}\n{}\n### Result\n\n{}", bound::METHOD, bound.table());
        eprintln!("wrote {}", record::write("idle-nats", &text)?.display());
    }
    let complaint = bound.complaint();
    if let Some(complaint) = &complaint {
        eprintln!("NOT MET: {complaint}");
    }
    Ok(complaint.is_none())
}

/// Measures everything, or with `--nats` only what that is about.
pub(crate) fn run(programs: &Programs, options: &Options, machine: &Machine, args: &[&str]) -> Result<bool> {
    if options.nats {
        return on_nats(programs, options, machine, args);
    }
    let mut report = Report { idle: options.idle, ..Report::default() };
    for transport in [Transport::Tcp, Transport::WebSocket] {
        eprintln!("{}: {} idle connections", transport.name(), options.idle);
        report.memory.push(memory::measure(programs, transport, options)?);
    }
    eprintln!("bind, and requests beside {} connections: {} slices", options.idle, options.slices);
    let (binds, requests) = crowded::measure(programs, options)?;
    report.binds = binds;
    report.requests = Some(requests);

    if options.json {
        print!("{}", report.json()?);
    } else {
        print!("{}", report.tables());
    }
    if options.record {
        let text = format!("{}\n{}", machine::head(machine, "idle", args), report.markdown());
        eprintln!("wrote {}", record::write("idle", &text)?.display());
    }
    let complaints = report.complaints();
    for complaint in &complaints {
        eprintln!("NOT MET: {complaint}");
    }
    Ok(complaints.is_empty())
}
