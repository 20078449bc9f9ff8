//! What the README shows is what is built and run.
#![allow(clippy::unwrap_used, reason = "helpers of a test fail the test")]

use std::{fs, path::Path};

#[test]
fn the_first_server_of_the_readme_is_the_example() {
    let readme = read("README.md");
    let code = readme.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let example = read("examples/first-server/src/main.rs");
    let (_, example) = example.split_once("\n\n").unwrap();
    assert_eq!(code, example);
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}
