//! The demo as people use it: its real server, a real browser, two tabs.
//!
//! Without a Chromium the tests say that they are skipped; with `CI=true` they fail then.

mod browser;

use std::{env, error::Error, io, net::SocketAddr, path::PathBuf};

use browser::{Browser, BrowserError, Tab};
use chat::Chat;
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

type TestResult = Result<(), Box<dyn Error>>;

/// The server and the browser, or `None` where there is no browser to test with.
async fn stage() -> Result<Option<(Chat, Browser)>, Box<dyn Error>> {
    let browser = match Browser::start().await {
        Err(BrowserError::NotInstalled) if env::var("CI").as_deref() != Ok("true") => {
            eprintln!("skipped: no chromium is installed, and this is not CI");
            return Ok(None);
        }
        other => other?,
    };
    Ok(Some((chat::start("127.0.0.1:0").await?, browser)))
}

fn url(chat: &Chat) -> String {
    format!("http://{}/", chat.address())
}

/// Fills in the join screen and sends it.
async fn ask_for_seat(tab: &Tab, name: &str, room: &str) -> Result<(), BrowserError> {
    tab.type_text("#name", name).await?;
    tab.type_text("#room", room).await?;
    tab.click("#join").await
}

/// Opens the demo in a new tab and joins a room.
async fn join(browser: &Browser, chat: &Chat, name: &str, room: &str) -> Result<Tab, BrowserError> {
    let tab = browser.tab(&url(chat)).await?;
    ask_for_seat(&tab, name, room).await?;
    sits_in(&tab, room).await?;
    Ok(tab)
}

/// Waits until the tab shows a room, as somebody who is in it.
async fn sits_in(tab: &Tab, room: &str) -> Result<(), BrowserError> {
    let condition = format!(
        "!document.querySelector('#chat-screen').hidden
            && document.querySelector('#room-title').textContent === {}
            && document.querySelector('#head-count').textContent.endsWith(' here')",
        json!(room)
    );
    tab.wait_for(&condition, &format!("the room is {room}")).await
}

/// Waits until exactly these people are shown as online, oneself first.
async fn sees_people(tab: &Tab, names: &[&str]) -> Result<(), BrowserError> {
    let condition = format!(
        "JSON.stringify([...document.querySelectorAll('#people > li')].map((each) => each.dataset.name))
            === JSON.stringify({})",
        json!(names)
    );
    tab.wait_for(&condition, &format!("online are {names:?}")).await
}

/// Waits for a notice, `join` or `leave`.
async fn sees_notice(tab: &Tab, kind: &str, name: &str) -> Result<(), BrowserError> {
    let condition = format!("{} > 0", notices(kind, name));
    tab.wait_for(&condition, &format!("the notice {kind} of {name}")).await
}

/// The number of notices, as an expression.
fn notices(kind: &str, name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#messages > [data-kind={kind}]')]
            .filter((each) => each.dataset.name === {}).length",
        json!(name)
    )
}

/// Waits for a message of somebody.
async fn sees_message(tab: &Tab, name: &str, text: &str) -> Result<(), BrowserError> {
    let condition = format!(
        "[...document.querySelectorAll('#messages > [data-kind=message]')].some((each) =>
            each.dataset.name === {} && each.querySelector('.text').textContent === {})",
        json!(name),
        json!(text)
    );
    tab.wait_for(&condition, &format!("{name} says {text:?}")).await
}

/// Writes a message and sends it with the Enter key.
async fn say(tab: &Tab, text: &str) -> Result<(), BrowserError> {
    tab.type_text("#text", text).await?;
    tab.press_enter().await
}

/// Waits until an element shows this text.
async fn shows(tab: &Tab, selector: &str, text: &str) -> Result<(), BrowserError> {
    let condition = format!(
        "(() => {{
            const place = document.querySelector({});
            return place.checkVisibility() && place.textContent.includes({});
        }})()",
        json!(selector),
        json!(text)
    );
    tab.wait_for(&condition, &format!("{selector} shows {text:?}")).await
}

/// Counts from now on, as `peopleChanged` in the page, how often somebody comes or goes in the eyes of this tab.
async fn watch_people(tab: &Tab) -> Result<(), BrowserError> {
    tab.eval(
        "window.peopleChanged = 0;
         new MutationObserver((changes) => {
            for (const { addedNodes, removedNodes } of changes) peopleChanged += addedNodes.length + removedNodes.length;
         }).observe(document.querySelector('#people'), { childList: true })",
    )
    .await?;
    Ok(())
}

/// Waits until the server no longer waits for somebody whose connection has ended: it does so for two seconds.
async fn past_the_grace(tab: &Tab) -> Result<(), BrowserError> {
    let start = tab.eval("performance.now()").await?;
    let past = format!("performance.now() - {start} > 2500");
    tab.wait_for(&past, "the server has stopped waiting").await
}

/// Where a picture for people goes.
fn picture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chat-{name}.png"))
}

#[tokio::test]
async fn two_people_talk() -> TestResult {
    let Some((chat, browser)) = stage().await? else {
        return Ok(());
    };
    let ada = join(&browser, &chat, "Ada", "garden").await?;
    sees_people(&ada, &["Ada"]).await?;
    shows(&ada, "#empty", "You are the only one here").await?;

    let bob = join(&browser, &chat, "Bob", "garden").await?;
    sees_people(&ada, &["Ada", "Bob"]).await?;
    sees_people(&bob, &["Bob", "Ada"]).await?;
    sees_notice(&ada, "join", "Bob").await?;

    // Each sees what either says; HTML stays text.
    say(&ada, "Hello <b>Bob</b>").await?;
    sees_message(&bob, "Ada", "Hello <b>Bob</b>").await?;
    sees_message(&ada, "Ada", "Hello <b>Bob</b>").await?;

    // The hint that somebody types goes with what they typed.
    bob.type_text("#text", "Hello Ada, grüße 🌵").await?;
    shows(&ada, "#typing", "Bob is typing").await?;
    bob.press_enter().await?;
    for tab in [&ada, &bob] {
        sees_message(tab, "Bob", "Hello Ada, grüße 🌵").await?;
    }
    assert_eq!(ada.eval("document.querySelector('#typing').textContent").await?, "");

    let mine = "[...document.querySelectorAll('#messages .mine')].map((each) => each.dataset.name)";
    assert_eq!(ada.eval(mine).await?, json!(["Ada"]));
    assert_eq!(bob.eval(mine).await?, json!(["Bob"]));
    let field = ada.eval("document.querySelector('#text').value").await?;
    assert_eq!(field, "", "what is sent leaves the field");

    // Both at once: everybody sees everything once, and both see the same order.
    let many = |name: &str| {
        format!(
            "(() => {{
                for (let number = 0; number < 25; number += 1) {{
                    const field = document.querySelector('#text');
                    field.value = `{name} ${{number}}`;
                    field.dispatchEvent(new Event('input'));
                    document.querySelector('#composer').requestSubmit();
                }}
            }})()"
        )
    };
    let (from_ada, from_bob) = (many("Ada"), many("Bob"));
    tokio::try_join!(ada.eval(&from_ada), bob.eval(&from_bob))?;
    let texts = "[...document.querySelectorAll('#messages .text')].map((each) => each.textContent)";
    for tab in [&ada, &bob] {
        tab.wait_for(&format!("{texts}.length === 52"), "all messages are there").await?;
    }
    assert_eq!(ada.eval(texts).await?, bob.eval(texts).await?);
    for name in ["Ada", "Bob"] {
        let own = format!("{texts}.filter((text) => /^{name} [0-9]+$/.test(text))");
        let expected: Vec<_> = (0..25).map(|number| format!("{name} {number}")).collect();
        assert_eq!(ada.eval(&own).await?, json!(expected));
    }

    ada.screenshot(&picture("room")).await?;
    chat.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_short_break_goes_unnoticed() -> TestResult {
    let Some((chat, browser)) = stage().await? else {
        return Ok(());
    };
    let ada = join(&browser, &chat, "Ada", "garden").await?;
    let bob = join(&browser, &chat, "Bob", "garden").await?;
    // The page does not show its socket to scripts, so catch it when it sends.
    ada.eval(
        "{
            const { send } = WebSocket.prototype;
            WebSocket.prototype.send = function (data) {
                window.socket = this;
                return send.call(this, data);
            };
        }",
    )
    .await?;
    say(&ada, "before").await?;
    sees_message(&bob, "Ada", "before").await?;
    watch_people(&bob).await?;

    ada.eval("window.broken = socket; socket.close()").await?;
    ada.wait_for("socket !== broken", "there is another socket").await?;
    sits_in(&ada, "garden").await?;
    past_the_grace(&bob).await?;
    say(&bob, "after").await?;
    sees_message(&ada, "Bob", "after").await?;
    assert_eq!(bob.eval("peopleChanged").await?, 0, "nobody came or went");
    let texts = "[...document.querySelectorAll('#messages .text')].map((each) => each.textContent)";
    assert_eq!(ada.eval(texts).await?, json!(["before", "after"]), "the history is not shown twice");
    chat.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_reload_keeps_the_seat() -> TestResult {
    let Some((chat, browser)) = stage().await? else {
        return Ok(());
    };
    let ada = join(&browser, &chat, "Ada", "garden").await?;
    let bob = join(&browser, &chat, "Bob", "garden").await?;
    say(&ada, "before").await?;
    sees_message(&bob, "Ada", "before").await?;
    sees_people(&ada, &["Ada", "Bob"]).await?;

    watch_people(&ada).await?;
    bob.reload().await?;
    sits_in(&bob, "garden").await?;
    sees_people(&bob, &["Bob", "Ada"]).await?;
    sees_message(&bob, "Ada", "before").await?;
    past_the_grace(&ada).await?;
    say(&bob, "after").await?;
    sees_message(&ada, "Bob", "after").await?;
    assert_eq!(ada.eval("peopleChanged").await?, 0, "nobody came or went");
    assert_eq!(ada.eval(&notices("leave", "Bob")).await?, 0);
    assert_eq!(ada.eval(&notices("join", "Bob")).await?, 1);

    // Somebody who closes the tab is gone.
    bob.close().await?;
    sees_notice(&ada, "leave", "Bob").await?;
    sees_people(&ada, &["Ada"]).await?;
    chat.stop().await?;
    Ok(())
}

#[tokio::test]
async fn people_move_and_leave() -> TestResult {
    let Some((chat, browser)) = stage().await? else {
        return Ok(());
    };
    let ada = join(&browser, &chat, "Ada", "garden").await?;
    let bob = join(&browser, &chat, "Bob", "garden").await?;
    say(&ada, "only for the garden").await?;
    sees_message(&bob, "Ada", "only for the garden").await?;

    // To a room of the list.
    bob.click("#rooms [data-room=games]").await?;
    sits_in(&bob, "games").await?;
    sees_people(&bob, &["Bob"]).await?;
    sees_notice(&ada, "leave", "Bob").await?;
    sees_people(&ada, &["Ada"]).await?;
    shows(&ada, "#rooms [data-room=games] .count", "1").await?;
    let shown = "document.querySelectorAll('#messages [data-kind=message]').length";
    assert_eq!(bob.eval(shown).await?, 0, "the talk stays in its room");

    // To one that did not exist.
    bob.type_text("#new-room", "night_train-7").await?;
    bob.press_enter().await?;
    sits_in(&bob, "night_train-7").await?;
    shows(&ada, "#rooms [data-room=night_train-7] .count", "1").await?;
    bob.type_text("#new-room", "no room!").await?;
    bob.press_enter().await?;
    shows(&bob, "#room-error", "1 to 24 letters").await?;
    sits_in(&bob, "night_train-7").await?;

    // And back, where the history waits.
    bob.click("#rooms [data-room=garden]").await?;
    sits_in(&bob, "garden").await?;
    sees_message(&bob, "Ada", "only for the garden").await?;
    sees_people(&ada, &["Ada", "Bob"]).await?;

    // Leaving is final, and the name is remembered.
    bob.click("#leave").await?;
    shows(&bob, "#join-screen", "Come in").await?;
    sees_people(&ada, &["Ada"]).await?;
    bob.reload().await?;
    shows(&bob, "#join-screen", "Come in").await?;
    let name = bob.eval("document.querySelector('#name').value").await?;
    assert_eq!(name, "Bob");

    // Somebody else in the same tab.
    ask_for_seat(&bob, "Bea", "garden").await?;
    sits_in(&bob, "garden").await?;
    sees_people(&ada, &["Ada", "Bea"]).await?;
    chat.stop().await?;
    Ok(())
}

#[tokio::test]
async fn errors_are_in_words() -> TestResult {
    let Some((chat, browser)) = stage().await? else {
        return Ok(());
    };
    let ada = join(&browser, &chat, "Ada", "garden").await?;
    let tab = browser.tab(&url(&chat)).await?;

    ask_for_seat(&tab, "Ada", "garden").await?;
    shows(&tab, "#join-error", "Somebody called Ada is here already").await?;
    let invalid = "document.activeElement.id + document.activeElement.ariaInvalid";
    assert_eq!(tab.eval(invalid).await?, "nametrue");
    ask_for_seat(&tab, "Bob", "no room!").await?;
    shows(&tab, "#join-error", "1 to 24 letters").await?;
    assert_eq!(tab.eval(invalid).await?, "roomtrue");
    ask_for_seat(&tab, " ", "garden").await?;
    shows(&tab, "#join-error", "A name has").await?;
    ask_for_seat(&tab, &"n".repeat(25), "garden").await?;
    shows(&tab, "#join-error", "A name has").await?;
    sees_people(&ada, &["Ada"]).await?;

    // What is too long is not lost.
    let long = "ä".repeat(501);
    say(&ada, &long).await?;
    shows(&ada, "#say-error", "1 to 500 characters").await?;
    assert_eq!(ada.eval("document.querySelector('#text').value").await?, *long);
    let longest = "ä".repeat(500);
    say(&ada, &longest).await?;
    sees_message(&ada, "Ada", &longest).await?;
    chat.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_phone_shows_everything() -> TestResult {
    let Some((chat, browser)) = stage().await? else {
        return Ok(());
    };
    let fits = "document.documentElement.scrollWidth <= innerWidth
        && document.querySelector('#log').scrollWidth <= document.querySelector('#log').clientWidth";
    let tab = browser.tab(&url(&chat)).await?;
    tab.viewport(360, 740, true).await?;
    tab.wait_for(fits, "the join screen fits").await?;
    tab.screenshot(&picture("phone-join")).await?;

    let room = "a-room_of_24-characters0";
    ask_for_seat(&tab, &"W".repeat(24), room).await?;
    sits_in(&tab, room).await?;
    say(&tab, &"pitaya".repeat(80)).await?;
    sees_message(&tab, &"W".repeat(24), &"pitaya".repeat(80)).await?;
    let guest = join(&browser, &chat, &"M".repeat(24), room).await?;
    say(&guest, &"w".repeat(500)).await?;
    sees_message(&tab, &"M".repeat(24), &"w".repeat(500)).await?;
    tab.wait_for(fits, "the room fits").await?;
    tab.screenshot(&picture("phone-room")).await?;

    // Rooms and people are one tap away.
    tab.click("#open-side").await?;
    tab.click("#rooms [data-room=games]").await?;
    sits_in(&tab, "games").await?;
    tab.wait_for(fits, "the other room fits").await?;
    let open = "document.querySelector('#side').classList.contains('open')";
    assert_eq!(tab.eval(open).await?, false);
    tab.click("#open-side").await?;
    tab.click("#leave").await?;
    shows(&tab, "#join-screen", "Come in").await?;
    chat.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_lost_network_comes_back() -> TestResult {
    let Some((chat, browser)) = stage().await? else {
        return Ok(());
    };
    let mut wire = Wire::lay(chat.address()).await?;
    let ada = browser.tab(&format!("http://{}/", wire.address)).await?;
    ask_for_seat(&ada, "Ada", "garden").await?;
    sits_in(&ada, "garden").await?;
    let bob = join(&browser, &chat, "Bob", "garden").await?;
    say(&ada, "before").await?;
    sees_message(&bob, "Ada", "before").await?;

    wire.cut().await;
    shows(&ada, "#banner", "No connection").await?;
    ada.screenshot(&picture("banner")).await?;
    // What is written meanwhile stays where it is, and what others say meanwhile comes later.
    ada.type_text("#text", "patience").await?;
    ada.press_enter().await?;
    say(&bob, "meanwhile").await?;
    sees_message(&bob, "Bob", "meanwhile").await?;
    sees_notice(&bob, "leave", "Ada").await?;

    wire.mend().await?;
    sits_in(&ada, "garden").await?;
    ada.wait_for("document.querySelector('#banner').hidden", "no banner").await?;
    sees_people(&bob, &["Bob", "Ada"]).await?;
    sees_message(&ada, "Bob", "meanwhile").await?;
    assert_eq!(ada.eval("document.querySelector('#text').value").await?, "patience");
    ada.click("#send").await?;
    for tab in [&ada, &bob] {
        sees_message(tab, "Ada", "patience").await?;
    }
    let texts = "[...document.querySelectorAll('#messages .text')].map((each) => each.textContent)";
    assert_eq!(ada.eval(texts).await?, json!(["before", "meanwhile", "patience"]));
    chat.stop().await?;
    Ok(())
}

/// A wire between a browser and the server, which can be cut and mended.
struct Wire {
    /// Where the browser finds its end; the same after mending.
    address: SocketAddr,
    server: SocketAddr,
    traffic: JoinSet<()>,
}

impl Wire {
    async fn lay(server: SocketAddr) -> io::Result<Self> {
        let mut wire = Self { address: ([127, 0, 0, 1], 0).into(), server, traffic: JoinSet::new() };
        wire.mend().await?;
        Ok(wire)
    }

    async fn mend(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        self.traffic.spawn(carry(listener, self.server));
        Ok(())
    }

    /// Closes the port and all connections.
    async fn cut(&mut self) {
        self.traffic.shutdown().await;
    }
}

async fn carry(listener: TcpListener, server: SocketAddr) {
    // Ends with this future, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((mut browser, _)) = listener.accept().await {
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(server).await {
                // That one side breaks off is what this is for.
                let _ = copy_bidirectional(&mut browser, &mut server).await;
            }
        });
    }
}

#[tokio::test]
async fn the_client_library_keeps_to_the_protocol() -> TestResult {
    let Some((chat, browser)) = stage().await? else {
        return Ok(());
    };
    let tab = browser.tab(&url(&chat)).await?;
    let passed = tab.eval(include_str!("browser/pitaya_checks.js")).await?;
    assert!(passed.as_array().is_some_and(|names| names.len() > 10));
    chat.stop().await?;
    Ok(())
}
