//! Drives a headless Chromium for the tests, over its DevTools protocol.
//!
//! This file is a `mod.rs`, against the habit of the workspace: Cargo takes each `tests/*.rs` for a test of its own, so a
//! module that tests share can only live in a folder.

mod cdp;
mod tab;

use std::{
    env,
    ffi::OsStr,
    fmt, fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use self::cdp::Cdp;
pub(crate) use self::tab::Tab;

/// The longest time that anything may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// Says what went wrong in or with the browser.
#[derive(Debug)]
pub(crate) enum BrowserError {
    /// There is no Chromium on this machine.
    NotInstalled,
    /// The browser could not be started, or its files could not be used.
    Io(io::Error),
    /// The browser refused a call, or has gone away.
    Protocol(String),
    /// A script in the page threw.
    Script(String),
    /// A condition did not come true in time.
    TimedOut(String),
}

impl fmt::Display for BrowserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled => write!(f, "no chromium is installed"),
            Self::Io(_) => write!(f, "the browser could not be run"),
            Self::Protocol(what) => write!(f, "the browser does not do as told: {what}"),
            Self::Script(what) => write!(f, "a script in the page failed: {what}"),
            Self::TimedOut(what) => write!(f, "waited in vain: {what}"),
        }
    }
}

impl std::error::Error for BrowserError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for BrowserError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A headless Chromium with an empty profile. Dropping it ends the process and removes the profile.
#[derive(Debug)]
pub(crate) struct Browser {
    cdp: Cdp,
    // Dropped in this order: the process must be gone before its files are removed.
    _process: Process,
    _profile: Profile,
}

impl Browser {
    /// Starts the browser and connects to it.
    pub(crate) async fn start() -> Result<Self, BrowserError> {
        let program = find_chromium().ok_or(BrowserError::NotInstalled)?;
        let profile = Profile::create()?;
        let mut process = Process::start(&program, profile.path())?;
        let address = timeout(PATIENCE, devtools_address(&mut process, profile.path()))
            .await
            .map_err(|_| BrowserError::TimedOut("the address of the DevTools".into()))??;
        let cdp = Cdp::connect(&address).await?;
        Ok(Self { cdp, _process: process, _profile: profile })
    }

    /// Opens a page in a new tab and waits until it is loaded.
    ///
    /// Tabs share the profile, as they do for people: `localStorage` is common, `sessionStorage` is not.
    pub(crate) async fn tab(&self, url: &str) -> Result<Tab, BrowserError> {
        let blank = json!({ "url": "about:blank" });
        let target = text(&self.cdp.call(None, "Target.createTarget", blank).await?, "targetId")?;
        let attach = json!({ "targetId": target, "flatten": true });
        let session = text(&self.cdp.call(None, "Target.attachToTarget", attach).await?, "sessionId")?;
        let tab = Tab::new(self.cdp.clone(), target, session);
        tab.open(url).await?;
        Ok(tab)
    }
}

/// Takes a text out of an answer.
fn text(answer: &Value, key: &str) -> Result<String, BrowserError> {
    match answer[key].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(BrowserError::Protocol(format!("no {key} in {answer}"))),
    }
}

/// Looks for the program on the `PATH`, then where Debian puts it.
fn find_chromium() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join("chromium"))
        .chain([PathBuf::from("/usr/bin/chromium")])
        .find(|program| program.is_file())
}

/// Waits for the file in which the browser tells the port that it has taken.
async fn devtools_address(process: &mut Process, profile: &Path) -> Result<String, BrowserError> {
    let file = profile.join("DevToolsActivePort");
    loop {
        // Two lines, port and path. The second one is there when the file is complete.
        if let Ok(content) = fs::read_to_string(&file)
            && let Some((port, path)) = content.trim().split_once('\n')
        {
            return Ok(format!("ws://127.0.0.1:{port}{path}"));
        }
        if let Some(status) = process.main.try_wait()? {
            return Err(BrowserError::Protocol(format!("it ended with {status}")));
        }
        sleep(POLL).await;
    }
}

/// The running program, killed on drop.
#[derive(Debug)]
struct Process {
    main: Child,
    /// Disconnected when the program and all its helper processes, which may still write files, have ended.
    all_ended: mpsc::Receiver<()>,
}

impl Process {
    fn start(program: &Path, profile: &Path) -> Result<Self, BrowserError> {
        let mut data_dir = OsStr::new("--user-data-dir=").to_owned();
        data_dir.push(profile);
        let mut main = Command::new(program)
            .args([
                "--headless=new",
                "--remote-debugging-port=0",
                // Containers run tests as root and with a tiny /dev/shm.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                // Nobody else is to be talked to.
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                // A test looks at several tabs at once; none of them is to be slowed down.
                "--disable-background-timer-throttling",
                "--disable-backgrounding-occluded-windows",
                "--disable-renderer-backgrounding",
                "--window-size=1280,800",
            ])
            .arg(data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        // All of them inherit the output, so its end is the end of the last one.
        let output = main.stdout.take();
        let (running, all_ended) = mpsc::channel();
        thread::spawn(move || {
            let _ = output.map(|mut output| io::copy(&mut output, &mut io::sink()));
            drop(running);
        });
        Ok(Self { main, all_ended })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Waiting is short: it has been killed, and its helper processes end when they notice.
        let _ = self.main.kill();
        let _ = self.main.wait();
        let _ = self.all_ended.recv_timeout(PATIENCE);
    }
}

/// A new empty folder, removed on drop.
#[derive(Debug)]
struct Profile(PathBuf);

impl Profile {
    fn create() -> Result<Self, BrowserError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("chat-browser-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
