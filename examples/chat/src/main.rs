//! Runs the chat, or one server of it, until Ctrl-C.

mod args;

use std::{error::Error, process::ExitCode};

use args::{Args, USAGE};

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    match args {
        Args::Help => say(USAGE),
        Args::Chat { address } => {
            let chat = chat::start(&address).await.map_err(|error| format!("{address}: {error}"))?;
            let address = chat.address();
            say(&format!("The chat is open: http://{address} (two tabs make a conversation; Ctrl-C stops it)"));
            pitaya::signal::shutdown().await;
            say("Stopping.");
            chat.stop().await?;
        }
        Args::Gate { links, address } => {
            let gate = chat::gate(&links, &address).await.map_err(|error| format!("{address}: {error}"))?;
            for address in gate.addresses() {
                say(&format!("The gate is at http://{address} (it needs a room server; Ctrl-C stops it)"));
            }
            gate.serve().with_signals().await?;
        }
        Args::Room { links } => {
            let room = chat::room(&links).await?;
            say("This is the room server (players come in by a gate; Ctrl-C stops it)");
            room.serve().with_signals().await?;
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a demo talks to the person who started it")]
fn say(text: &str) {
    println!("{text}");
}
