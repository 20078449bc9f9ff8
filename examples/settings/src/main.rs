//! Prints what files and the environment come to, and where each value is from.
//!
//! ```sh
//! cargo run -p settings -- examples/settings/game.toml
//! PITAYA_HEARTBEAT_INTERVAL=5s GAME_PASSWORD=hush cargo run -p settings
//! ```

use std::{process::ExitCode, time::Duration};

use pitaya::{
    config::{self, List, Row, Setting, Text},
    prelude::*,
};

static ROUND: Setting<Duration> = Setting::new("game.round", Duration::from_secs(60), "How long a round lasts.")
    .checked(|round| if round.is_zero() { Err("more than zero") } else { Ok(()) });

static MAPS: Setting<List<Text>> =
    Setting::new("game.maps", List::Borrowed(&[Text::Borrowed("castle")]), "What is played on.");

static PASSWORD: Setting<Text> = Setting::new("game.password", Text::Borrowed(""), "For the game's database.").secret();

#[tokio::main]
async fn main() -> ExitCode {
    match report().await {
        Ok(report) => {
            say(&report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn report() -> Result<String, Box<dyn std::error::Error>> {
    let mut server = Server::frontend("game")
        .acceptor(TcpAcceptor::bind("127.0.0.1:0").await?)
        .settings([&ROUND as &dyn Row, &MAPS, &PASSWORD])
        .environment(config::environment());
    for path in std::env::args_os().skip(1) {
        server = server.config_file(path);
    }
    let app = server.build()?.app();
    let config = app.config();
    let (round, maps) = (config.get(&ROUND), config.get(&MAPS).len());
    Ok(format!("{}\n\nA round lasts {round:?}, on one of {maps} maps.", config.report()))
}

#[expect(clippy::print_stdout, reason = "a demo talks to the person who started it")]
fn say(text: &str) {
    println!("{text}");
}
