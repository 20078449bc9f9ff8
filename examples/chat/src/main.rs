//! Starts the chat and stops it with Ctrl-C.

use std::process::ExitCode;

/// Where the chat listens unless the first argument says otherwise.
const ADDRESS: &str = "127.0.0.1:3250";

#[tokio::main]
async fn main() -> ExitCode {
    let address = std::env::args().nth(1).unwrap_or_else(|| ADDRESS.to_owned());
    match run(&address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            eprintln!("To listen elsewhere, give an address: cargo run -p chat -- 127.0.0.1:4000");
            ExitCode::FAILURE
        }
    }
}

async fn run(address: &str) -> Result<(), chat::ChatError> {
    let chat = chat::start(address).await?;
    say(&format!("The chat is open: http://{} (two tabs make a conversation; Ctrl-C stops it)", chat.address()));
    pitaya::signal::shutdown().await;
    say("Stopping.");
    chat.stop().await
}

#[expect(clippy::print_stdout, reason = "a demo talks to the person who started it")]
fn say(text: &str) {
    println!("{text}");
}
