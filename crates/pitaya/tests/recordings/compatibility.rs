//! The table of `docs/compatibility.md`.

/// Whether the table has a row of this name.
pub(crate) fn has_row(name: &str) -> bool {
    rows().any(|row| row == name)
}

/// The names of all rows: what stands in code font in the first column.
pub(crate) fn rows() -> impl Iterator<Item = &'static str> {
    let text = include_str!("../../../../docs/compatibility.md");
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(name, _)| name))
}

#[test]
fn each_row_is_shown_by_a_test() {
    let tests = concat!(include_str!("main.rs"), include_str!("test.rs"));
    let mut count = 0;
    for row in rows() {
        assert!(tests.contains(&format!("\"{row}\"")), "no test shows {row}");
        count += 1;
    }
    // So that another form of the table does not pass unnoticed.
    assert!(count > 5, "{count} rows");
}
