//! Lets clients come, misbehave and go, and fails if the server does not give everything back.
//!
//! `soak --server PATH-OF-BENCH-SERVER [--seconds 600] [--clients 400]`
#![allow(clippy::print_stdout, reason = "its output is stdout")]

use pitaya_bench::args::Args;
use pitaya_bench::soak::{self, Plan};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

#[tokio::main]
async fn main() -> ExitCode {
    match soak().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was well.
async fn soak() -> Result<bool, Box<dyn Error>> {
    let mut args = Args::from_env();
    let plan = Plan {
        server: args.value("--server")?.ok_or("--server PATH is missing")?,
        time: Duration::from_secs(args.value("--seconds")?.unwrap_or(600)),
        clients: args.value("--clients")?.unwrap_or(400),
    };
    args.finish()?;
    let outcome = soak::run(&plan).await?;
    print!("{outcome}");
    let complaints = outcome.complaints();
    for complaint in &complaints {
        eprintln!("NOT GIVEN BACK: {complaint}");
    }
    Ok(complaints.is_empty())
}
