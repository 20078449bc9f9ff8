//! The demo as processes of their own, on a real etcd and a real NATS.

use std::{
    error::Error,
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use pitaya_client::{Client, Pushes};
use pitaya_fixtures::{Etcd, Nats};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

type TestResult = Result<(), Box<dyn Error>>;

/// The longest that anything here may take; never waited for when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// One server of the chat.
struct Process {
    child: Child,
    /// What it said when it started.
    greeting: String,
}

impl Process {
    async fn start(role: &str, etcd: &Etcd, nats: &Nats, more: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut command = chat(&[role, "--nats", &nats.address(), "--etcd", &etcd.address()]);
        let mut child = command.args(more).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let mut greeting = String::new();
        timeout(PATIENCE, BufReader::new(stdout).read_line(&mut greeting)).await??;
        Ok(Self { child, greeting })
    }

    /// Where players connect.
    fn url(&self) -> Result<String, Box<dyn Error>> {
        let (_, rest) = self.greeting.split_once("http://").ok_or_else(|| self.greeting.clone())?;
        let address = rest.split_whitespace().next().ok_or("no address")?;
        Ok(format!("ws://{address}/"))
    }

    /// Stops it as an operator does.
    async fn stop(mut self) -> Result<ExitStatus, Box<dyn Error>> {
        let id = self.child.id().ok_or("it has ended by itself")?.to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await?.success());
        Ok(timeout(PATIENCE, self.child.wait()).await??)
    }
}

fn chat(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat"));
    command.args(args);
    command
}

/// Connects to a gate and joins the room `garden`, as soon as the gate knows the room server.
async fn join(gate: &str, name: &str) -> Result<(Client, Value), Box<dyn Error>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Until a gate has joined its cluster, nobody is answered.
        if let Ok(Ok(client)) = timeout(Duration::from_secs(1), Client::connect(gate)).await {
            match client.request("room.room.join", &json!({"name": name, "room": "garden"})).await {
                Ok(joined) => return Ok((client, joined)),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => {}
            }
        }
        assert!(Instant::now() < deadline, "nobody can connect to {gate}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn next(pushes: &mut Pushes) -> Result<Value, Box<dyn Error>> {
    let push = timeout(PATIENCE, pushes.next()).await?.ok_or("the connection has ended")?;
    Ok(push.json()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_of_two_gates_talk_in_a_room() -> TestResult {
    let (etcd, nats) = tokio::join!(Etcd::start(), Nats::start());
    let room = Process::start("room", &etcd, &nats, &[]).await?;
    let gate = Process::start("gate", &etcd, &nats, &["127.0.0.1:0"]).await?;
    let other_gate = Process::start("gate", &etcd, &nats, &["127.0.0.1:0"]).await?;

    let (ada, _) = join(&gate.url()?, "Ada").await?;
    let [mut joins, mut leaves, mut to_ada] = ["onJoin", "onLeave", "onMessage"].map(|route| ada.on(route));
    let (bob, joined) = join(&other_gate.url()?, "Bob").await?;
    assert_eq!(joined["members"], json!([{"name": "Ada"}, {"name": "Bob"}]));
    assert_eq!(next(&mut joins).await?["name"], "Bob");

    let mut to_bob = bob.on("onMessage");
    for (who, name, text) in [(&ada, "Ada", "hello"), (&bob, "Bob", "grüße 🌵")] {
        let _: Value = who.request("room.room.say", &json!({"text": text})).await?;
        for pushes in [&mut to_ada, &mut to_bob] {
            let message = next(pushes).await?;
            assert_eq!(
                (&message["name"], &message["text"], &message["room"]),
                (&json!(name), &json!(text), &json!("garden"))
            );
        }
    }

    // Who closes the tab disappears.
    bob.close();
    assert_eq!(next(&mut leaves).await?["name"], "Bob");
    let rooms: Value = ada.request("room.room.rooms", &json!({})).await?;
    let garden = rooms["rooms"].as_array().and_then(|all| all.iter().find(|each| each["name"] == "garden"));
    assert_eq!(garden.map(|garden| &garden["members"]), Some(&json!(1)));

    for process in [other_gate, gate, room] {
        assert!(process.stop().await?.success());
    }
    Ok(())
}

#[tokio::test]
async fn mistakes_on_the_command_line_are_told() -> TestResult {
    let network = ["--nats", "127.0.0.1:1", "--etcd", "127.0.0.1:1"];
    let cases: [(&[&str], &str); 8] = [
        (&["gaet"], "\"gaet\" is neither an option nor an address with a port"),
        (&["--port", "1"], "\"--port\" is neither"),
        (&["127.0.0.1:0", "127.0.0.1:0"], "\"127.0.0.1:0\" is neither"),
        (&["gate", "--etcd", "127.0.0.1:1"], "a gate finds the other servers by --nats HOST:PORT"),
        (&["room", "--nats", "127.0.0.1:1"], "a room finds the other servers by --etcd HOST:PORT"),
        (&["gate", "--nats"], "--nats needs an address"),
        (&["--nats", "127.0.0.1:1"], "with --nats, say whether this process is a gate or a room"),
        (&["room", network[0], network[1], network[2], network[3], "127.0.0.1:0"], "a room has no address 127.0.0.1:0"),
    ];
    for (args, expected) in cases {
        let Output { status, stderr, .. } = timeout(PATIENCE, chat(args).output()).await??;
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(!status.success());
        assert!(stderr.contains(expected) && stderr.contains("chat gate --nats HOST:PORT"), "{args:?}: {stderr}");
    }
    Ok(())
}
