//! A quiz for two: a game small enough to be read in a minute. How it is tested is in `tests/quiz.rs`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pitaya::{Lifecycle, ServerBuilder, Timer, prelude::*};
use serde::Serialize;

/// How long a question is open.
const TIME: Duration = Duration::from_secs(30);

/// The server of the game, but for where its clients come from.
pub fn game() -> ServerBuilder {
    Server::frontend("game").handlers(Quiz::default())
}

#[derive(Default)]
struct Quiz {
    question: Question,
}

impl Lifecycle for Quiz {
    async fn init(&self, app: &App) -> Result<()> {
        Ok(app.group("quiz").create().await?)
    }
}

#[handlers(name = "quiz")]
impl Quiz {
    /// Enters the quiz under a name; with the second player it begins.
    #[request]
    async fn enter(&self, app: App, session: Session, Json(name): Json<String>) -> Result<()> {
        session.bind(name).await?;
        let quiz = app.group("quiz");
        quiz.join(&session).leave_on_close().await?;
        if quiz.len().await? == 2 {
            self.question.open(&app);
            quiz.broadcast("game", "onQuestion", Json("7 * 8")).await?.all()?;
        }
        Ok(())
    }

    /// Answers the question; who is right first has won.
    #[request]
    async fn answer(&self, app: App, session: Session, Json(answer): Json<u32>) -> Result<()> {
        if answer != 56 {
            return Err(Error::new("QUIZ-001", "wrong"));
        }
        if !self.question.close() {
            return Err(Error::new("QUIZ-002", "no question is open"));
        }
        over(&app, Some(&session.uid()?)).await
    }
}

/// The timer of the open question, if one is open. Clones share it.
#[derive(Clone, Default)]
struct Question(Arc<Mutex<Option<Timer>>>);

impl Question {
    fn open(&self, app: &App) {
        let (question, late) = (self.clone(), app.clone());
        let timer = app.tasks().timer("question").after(TIME).run(move || {
            let (question, app) = (question.clone(), late.clone());
            async move {
                if question.close() {
                    // Players who have gone need not be told.
                    drop(over(&app, None).await);
                }
            }
        });
        *self.lock() = Some(timer);
    }

    /// Whether it was open: an answer and the end of the time may come at once, and only one of them counts.
    fn close(&self) -> bool {
        self.lock().take().inspect(Timer::stop).is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Timer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Serialize)]
struct Over<'a> {
    winner: Option<&'a str>,
}

async fn over(app: &App, winner: Option<&Uid>) -> Result<()> {
    let over = Over { winner: winner.map(Uid::as_str) };
    app.group("quiz").broadcast("game", "onOver", Json(over)).await?.all()
}
