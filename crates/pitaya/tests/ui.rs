//! What the compiler says of handlers that are wrong, and that those that are right compile.
//!
//! The expected output is that of the toolchain in `rust-version`; `TRYBUILD=overwrite` writes it anew.

#[test]
fn mistakes_are_reported_where_they_are_and_the_rest_compiles() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
