//! Start and stop of modules and components, and what handlers find of them.

use std::{
    fmt::Debug,
    future::IntoFuture as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use pitaya::{
    App, BuildError, Component, Error, Json, Lifecycle, Phase, Problem, Result, ServeError, Server, ServerBuilder,
    code, extract::State, handlers, settings,
};
use pitaya_protocol::Message;
use tokio::time::{Duration, Instant, sleep};

use crate::support::{Events, Pipes, Running, desk, eventually, serve, soon};

/// Tells what it is called for, and fails where it is told to.
struct Part {
    name: &'static str,
    events: Events,
    fails: Option<(Phase, Failure)>,
}

#[derive(Clone, Copy)]
enum Failure {
    Error,
    Panic,
    Hang,
}

impl Part {
    fn new(name: &'static str, events: &Events) -> Self {
        Self { name, events: events.clone(), fails: None }
    }

    fn failing(name: &'static str, events: &Events, phase: Phase, failure: Failure) -> Self {
        Self { fails: Some((phase, failure)), ..Self::new(name, events) }
    }

    async fn called(&self, phase: Phase) -> Result<()> {
        self.events.add(format!("{} {phase}", self.name));
        match self.fails {
            Some((at, Failure::Error)) if at == phase => Err(Error::new("PART-1", "out of order")),
            Some((at, Failure::Panic)) if at == phase => panic!("{} on purpose", self.name),
            Some((at, Failure::Hang)) if at == phase => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

impl Lifecycle for Part {
    async fn init(&self, _app: &App) -> Result<()> {
        self.called(Phase::Init).await
    }

    async fn after_init(&self, _app: &App) -> Result<()> {
        self.called(Phase::AfterInit).await
    }

    async fn before_shutdown(&self, _app: &App) -> Result<()> {
        self.called(Phase::BeforeShutdown).await
    }

    async fn shutdown(&self, _app: &App) -> Result<()> {
        self.called(Phase::Shutdown).await
    }
}

/// A component that has a lifecycle because its type does; nothing says so where it is registered.
struct Room<T>(Part, T);

impl<T: Debug + Send + Sync + 'static> Lifecycle for Room<T> {
    async fn init(&self, _app: &App) -> Result<()> {
        self.0.called(Phase::Init).await
    }

    async fn shutdown(&self, _app: &App) -> Result<()> {
        self.0.called(Phase::Shutdown).await
    }
}

#[handlers(name = "room")]
impl<T: Debug + Send + Sync + 'static> Room<T> {
    #[request]
    async fn info(&self) -> Json<String> {
        Json(format!("{:?}", self.1))
    }
}

fn started(server: &Running) -> impl Future<Output = ()> {
    let app = server.app.clone();
    async move { soon("the server is ready", app.ready()).await }
}

#[tokio::test]
async fn all_are_initialised_in_order_and_shut_down_in_reverse() {
    let events = Events::default();
    let at_close = events.clone();
    let server = serve(
        desk()
            .handlers(Room(Part::new("room", &events), 1))
            .component(
                Component::builder("hall", Arc::new(Part::new("hall", &events)))
                    .request("x", async || ())
                    .lifecycle()
                    .build(),
            )
            .module("scores", Part::new("scores", &events))
            .module_before("database", Part::new("database", &events))
            .module("mail", Part::new("mail", &events))
            .on_close(move |_, _| {
                at_close.add("session closed");
                async {}
            }),
    )
    .await;
    let client = server.client().await;
    assert_eq!(
        events.all(),
        [
            "database init",
            "scores init",
            "mail init",
            "room init",
            "hall init",
            "database after_init",
            "scores after_init",
            "mail after_init",
            "hall after_init",
        ]
    );
    let before = events.all().len();
    server.stop().await.unwrap();
    assert_eq!(
        events.all()[before..],
        [
            "session closed",
            "hall before_shutdown",
            "mail before_shutdown",
            "scores before_shutdown",
            "database before_shutdown",
            "hall shutdown",
            "room shutdown",
            "mail shutdown",
            "scores shutdown",
            "database shutdown",
        ]
    );
    drop(client);
}

#[tokio::test]
async fn what_is_registered_twice_is_called_once() {
    let events = Events::default();
    let room = Arc::new(Room(Part::new("room", &events), ()));
    let server = serve(desk().handlers(Arc::clone(&room)).shared_module("room", room)).await;
    started(&server).await;
    server.stop().await.unwrap();
    assert_eq!(events.all(), ["room init", "room shutdown"]);
}

/// Runs a server whose start fails.
async fn fails_to_start(builder: ServerBuilder) -> (String, Phase, Error) {
    let (_pipes, acceptor) = Pipes::new();
    let server = builder.acceptor(acceptor).build().unwrap();
    let app = server.app();
    let ended = soon("the start fails", server.serve().into_future()).await;
    assert!(!app.is_ready());
    assert!(app.tasks().is_empty());
    match ended {
        Err(ServeError::Start { part, phase, error }) => (part, phase, error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_ends_the_start_with_its_name_and_what_began_is_shut_down() {
    for (failure, expected) in [
        (Failure::Error, "PART-1: out of order"),
        (Failure::Panic, "PIT-500: panicked: second on purpose"),
        (Failure::Hang, "PIT-408: took longer than 7s"),
    ] {
        for phase in [Phase::Init, Phase::AfterInit] {
            let events = Events::default();
            let builder = desk()
                .set(&settings::MODULE_START_TIMEOUT, Duration::from_secs(7))
                .module("first", Part::new("first", &events))
                .module("second", Part::failing("second", &events, phase, failure))
                .module("third", Part::new("third", &events));
            let (part, at, error) = fails_to_start(builder).await;
            assert_eq!((part.as_str(), at, error.to_string().as_str()), ("second", phase, expected));
            let stopped: Vec<_> = events.all().into_iter().filter(|event| event.contains("shutdown")).collect();
            let expected: &[&str] = match phase {
                Phase::Init => &["first before_shutdown", "first shutdown"],
                _ => &[
                    "third before_shutdown",
                    "second before_shutdown",
                    "first before_shutdown",
                    "third shutdown",
                    "second shutdown",
                    "first shutdown",
                ],
            };
            assert_eq!(stopped, expected, "{phase}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_to_stop_is_told_and_keeps_nothing_else_from_stopping() {
    for (failure, expected) in [
        (Failure::Error, "PART-1: out of order"),
        (Failure::Panic, "PIT-500: panicked: second on purpose"),
        (Failure::Hang, "PIT-408: took longer than 3s"),
    ] {
        for phase in [Phase::BeforeShutdown, Phase::Shutdown] {
            let events = Events::default();
            let server = serve(
                desk()
                    .set(&settings::MODULE_STOP_TIMEOUT, Duration::from_secs(3))
                    .module("first", Part::new("first", &events))
                    .module("second", Part::failing("second", &events, phase, failure)),
            )
            .await;
            started(&server).await;
            let Err(ServeError::Stop { part, phase: at, error }) = server.stop().await else { panic!("{phase}") };
            assert_eq!((part.as_str(), at, error.to_string().as_str()), ("second", phase, expected));
            let all = events.all();
            assert_eq!(
                all[all.len() - 4..],
                ["second before_shutdown", "first before_shutdown", "second shutdown", "first shutdown"]
            );
        }
    }
}

/// Waits in its `init` until it is let go.
struct Slow(Arc<AtomicBool>);

impl Lifecycle for Slow {
    async fn init(&self, _app: &App) -> Result<()> {
        while !self.0.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn no_client_is_served_before_the_start_has_ended() {
    let open = Arc::new(AtomicBool::new(false));
    let server = serve(desk().module("slow", Slow(Arc::clone(&open)))).await;
    let address = server.tcp;
    let mut client = tokio::spawn(async move { crate::support::connect(&format!("tcp://{address}")).await });
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut client).await.is_err());
    assert_eq!((server.app.session_count(), server.app.is_ready()), (0, false));
    open.store(true, Ordering::SeqCst);
    let client = soon("the client is served", client).await.unwrap();
    assert!(server.app.is_ready());
    let app = server.app.clone();
    server.stop().await.unwrap();
    assert!(!app.is_ready());
    drop(client);
}

#[tokio::test]
async fn a_stop_during_the_start_ends_it() {
    let events = Events::default();
    let mut server = serve(
        desk()
            .module("first", Part::new("first", &events))
            .module("slow", Slow(Arc::default()))
            .module("never", Part::new("never", &events)),
    )
    .await;
    eventually("the first has been initialised", || events.count("first init") == 1).await;
    server.begin_stop();
    server.stop().await.unwrap();
    assert_eq!(events.all(), ["first init", "first before_shutdown", "first shutdown"]);
}

struct Bank(AtomicUsize);

impl Lifecycle for Bank {}

struct Clerk;

#[handlers(name = "clerk")]
impl Clerk {
    #[request]
    async fn pay(&self, app: App, bank: State<Bank>) -> Result<Json<bool>> {
        bank.0.0.fetch_add(1, Ordering::SeqCst);
        let by_type = app.module::<Bank>().ok_or("no bank")?;
        let by_name = app.module_named::<Bank>("bank")?;
        Ok(Json(Arc::ptr_eq(&by_type, &by_name) && by_name.0.load(Ordering::SeqCst) == 1))
    }
}

#[tokio::test]
async fn handlers_find_modules_by_type_and_by_name() {
    let server = serve(Server::frontend("game").handlers(Clerk).module("bank", Bank(AtomicUsize::new(0)))).await;
    let answer: bool = server.client().await.request("clerk.pay", &()).await.unwrap();
    assert!(answer);
    let unknown = server.app.module_named::<Bank>("bnak").err().unwrap();
    assert_eq!(unknown.message(), "no module is named bnak");
    let other = server.app.module_named::<Clerk>("bank").err().unwrap();
    assert!(other.message().starts_with("module bank is no ") && other.message().ends_with("Clerk"), "{other}");
    assert!(server.app.module::<Clerk>().is_none());
}

fn problems(built: Result<Server, BuildError>) -> Vec<String> {
    built.expect_err("it is wrong").problems().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn names_of_modules_are_unique_and_a_missing_module_is_noticed() {
    let built = desk()
        .module("bank", Bank(AtomicUsize::new(0)))
        .module("bank", Bank(AtomicUsize::new(0)))
        .acceptor(Pipes::new().1)
        .build();
    assert_eq!(problems(built), ["two modules are named bank"]);
    let built = Server::frontend("game").handlers(Clerk).acceptor(Pipes::new().1).build();
    let error = built.expect_err("there is no bank");
    let [problem] = error.problems() else { panic!("{error}") };
    assert!(matches!(problem, Problem::State { name, .. } if name.ends_with("Bank")), "{problem}");
}

/// Starts a timer, and looks at it when the app stops.
struct Clock {
    ticks: Arc<AtomicUsize>,
    events: Events,
}

impl Lifecycle for Clock {
    async fn after_init(&self, app: &App) -> Result<()> {
        let ticks = Arc::clone(&self.ticks);
        app.tasks().timer("clock").every(Duration::from_secs(1)).run(move || {
            ticks.fetch_add(1, Ordering::SeqCst);
            async {}
        });
        Ok(())
    }

    async fn before_shutdown(&self, app: &App) -> Result<()> {
        let before = self.ticks.load(Ordering::SeqCst);
        sleep(Duration::from_secs(3)).await;
        self.events.add(format!("{} ticks more", self.ticks.load(Ordering::SeqCst) - before));
        self.events.add(format!("{} tasks", app.tasks().len()));
        Ok(())
    }

    async fn shutdown(&self, app: &App) -> Result<()> {
        self.events.add(format!("{} tasks", app.tasks().len()));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn timers_run_until_before_shutdown_and_have_ended_at_shutdown() {
    let (ticks, events) = (Arc::new(AtomicUsize::new(0)), Events::default());
    let server = serve(desk().module("clock", Clock { ticks: Arc::clone(&ticks), events: events.clone() })).await;
    sleep(Duration::from_millis(5_500)).await;
    assert_eq!(ticks.load(Ordering::SeqCst), 5);
    server.stop().await.unwrap();
    assert_eq!(events.all(), ["3 ticks more", "2 tasks", "0 tasks"]);
}

/// Pushes to a client from a timer that its own handler started.
struct Countdown;

#[handlers(name = "countdown")]
impl Countdown {
    #[request]
    async fn start(&self, app: App, session: pitaya::Session, Json(from): Json<u64>) -> Result<()> {
        let left = Arc::new(AtomicUsize::new(from as usize));
        app.tasks().timer("countdown").every(Duration::from_secs(1)).times(from).run(move || {
            let (session, left) = (session.clone(), left.fetch_sub(1, Ordering::SeqCst) - 1);
            async move { drop(session.push("left", Json(left)).await) }
        });
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_starts_a_timer_that_outlives_it() {
    let server = serve(Server::frontend("game").handlers(Countdown)).await;
    let mut raw = server.pipes.established().await;
    let start = Instant::now();
    raw.send_message(&Message::request(1, "countdown.start", "3")).await;
    assert!(!raw.message().await.unwrap().error);
    for left in [2, 1, 0] {
        let push = raw.message().await.unwrap();
        assert_eq!((push.route.as_str(), &push.body[..]), ("left", left.to_string().as_bytes()));
    }
    assert_eq!(start.elapsed().as_secs(), 3);
    eventually("the timer has ended", || server.app.tasks().len() == 5).await;
    assert_eq!(code::TIMEOUT, "PIT-408");
}
