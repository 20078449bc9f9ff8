//! The quiz, as its players see it.

use pitaya_test::{TestClient, TestGame};
use serde_json::{Value, json};
use tested_game::game;
use tokio::time::Instant;

/// Two players who have got their question.
async fn quiz() -> (TestGame, TestClient, TestClient) {
    let game = TestGame::start(game()).await;
    let (mut ada, mut bob) = (game.client().await, game.client().await);
    let () = ada.request("quiz.enter", "ada").await;
    ada.expect_no_push("onQuestion").await;
    let () = bob.request("quiz.enter", "bob").await;
    for player in [&mut ada, &mut bob] {
        assert_eq!(player.expect_push::<String>("onQuestion").await, "7 * 8");
    }
    (game, ada, bob)
}

#[tokio::test(start_paused = true)]
async fn the_first_right_answer_wins() {
    let (game, mut ada, bob) = quiz().await;
    ada.expect_error("quiz.answer", &54, "QUIZ-001").await;
    let () = bob.request("quiz.answer", &56).await;
    assert_eq!(ada.expect_push::<Value>("onOver").await, json!({"winner": "bob"}));
    ada.expect_error("quiz.answer", &56, "QUIZ-002").await;
    game.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_nobody_wins_after_half_a_minute() {
    let (game, mut ada, bob) = quiz().await;
    bob.leave().await;
    let start = Instant::now();
    ada.set_patience(std::time::Duration::from_secs(60));
    assert_eq!(ada.expect_push::<Value>("onOver").await, json!({"winner": null}));
    assert_eq!((start.elapsed().as_secs(), game.app().session_count()), (30, 1));
    game.stop().await;
}
