//! What a request costs that a frontend hands on to a backend, against two servers written by hand.

use super::build::Programs;
use super::case::{Case, Transport};
use super::estimate::median_of;
use super::load::Load;
use super::machine::{self, Machine};
use super::options::Options;
use super::process::Process;
use super::report::{CaseReport, Report};
use super::rounds::{self, CONNECTIONS};
use super::server::Server;
use super::{Result, record};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long nats-server and etcd may take to start.
const START: Duration = Duration::from_secs(60);

/// Measures both cases.
pub(crate) fn run(programs: &Programs, options: &Options, machine: &Machine, args: &[&str]) -> Result<bool> {
    let mut report = Report { calibrations: Vec::new(), cases: Vec::new() };
    for case in Case::CLUSTER {
        let rate = (saturation(programs, case, options)? / 2.0).round();
        eprintln!("{}: {} slices at {rate:.0} requests per second", case.name(), options.slices);
        let mut slices = Vec::with_capacity(options.slices);
        while slices.len() < options.slices {
            let world = World::start(programs, case)?;
            rounds::fresh(programs, case, [&world.limit, &world.ours], rate, options, &mut slices)?;
        }
        let case = CaseReport::new(case, rate, slices, options.self_check)?;
        if options.json {
            println!("{}", case.json()?);
        }
        report.cases.push(case);
    }
    if !options.json {
        print!("{}", report.table());
    }
    if options.record {
        let text = format!(
            "{}\n{METHOD}\n### Result\n\n{}{}",
            machine::head(machine, "cluster", args),
            report.result(),
            report.raw_rounds()
        );
        eprintln!("wrote {}", record::write("cluster", &text)?.display());
    }
    let complaints = report.complaints();
    for complaint in &complaints {
        eprintln!("NOT MET: {complaint}");
    }
    Ok(complaints.is_empty())
}

/// The requests per second that the limit answers at saturation.
fn saturation(programs: &Programs, case: Case, options: &Options) -> Result<f64> {
    let world = World::start(programs, case)?;
    let mut load = Load::start(&programs.load, &[&world.limit], case.transport(), CONNECTIONS)?;
    load.route(case.route())?;
    load.saturate(options.warm_up)?;
    let turns = (0..options.saturations).map(|_| Ok(load.saturate(options.saturation)?.per_second));
    Ok(median_of(turns.collect::<Result<Vec<f64>>>()?.into_iter()))
}

/// Both pairs, and what they need. They end before what they need does.
struct World {
    limit: Server,
    ours: Server,
    _services: Option<Process>,
}

impl World {
    fn start(programs: &Programs, case: Case) -> Result<Self> {
        if case == Case::InProcess {
            let start = |program: &Path| Server::start_args(program, Transport::Tcp, &["--role", "both"]);
            return Ok(Self { limit: start(&programs.limit_pair)?, ours: start(&programs.our_pair)?, _services: None });
        }
        let mut services = Process::spawn("nats-server and etcd", &mut Command::new(&programs.services))?;
        let addresses = services.line(START)?;
        let start = |program: &Path, name: &str| {
            let command = |role: &str| {
                let mut command = Command::new(program);
                command.args(["--role", role, "--name", name]).args(addresses.split_whitespace());
                command
            };
            let backend = Server::start_backend(&mut command("back"))?;
            Result::Ok(Server::start_with(&mut command("front"), Transport::Tcp, &[])?.with(backend))
        };
        Ok(Self {
            limit: start(&programs.limit_pair, "limit")?,
            ours: start(&programs.our_pair, "under-test")?,
            _services: Some(services),
        })
    }
}

const METHOD: &str = "\
The load generator of *Requests* asks one frontend for a route of one backend: 64 connections, at most 8 requests in flight on each, at half of what the limit answers at saturation, at times that are fixed beforehand.
In the case *nats* each is a process, and a nats-server of its own process lies between them; in *in-process* both are one process.
*limit* is a pair of servers written by hand, without a framework: the frontend makes the same Request with session and metadata of the same packets, the backend reads it and its metadata, decodes and encodes the JSON of the body with the same serde_json calls, and answers with the same Response.
It sends through `Client::request` of async-nats with its defaults, which is the same library as ours; in the case *in-process* it hands the same encoded bytes to a task over a channel of tokio.
It knows its backend from its command line: it has no discovery, no sessions that change, no routing, and no hooks.
*ours* is this framework in its default configuration, on a real etcd and NATS or `Cluster::in_process()`, with one before-hook on the backend.
CPU is that of frontend and backend together, user and system; nats-server and etcd are left out.
The programs `nats-server` and `etcd` have to be installed.
Slices come in the order limit, ours, ours, limit, with new processes for every four, also of nats-server and etcd; a goal is met if the upper end of the 95 % interval of the ratios is at most the goal.
";
