//! Writes `docs/benchmarks.md`. Every figure in it comes from a run.
//!
//! Each benchmark has a part of its own in the file, which begins with a comment that names it; a run replaces its part
//! and leaves the others as they are.

use super::Result;
use std::path::{Path, PathBuf};

/// Writes the part of `benchmark` and says where it is.
pub(crate) fn write(benchmark: &str, text: &str) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask has no parent")?;
    let path = root.join("docs").join("benchmarks.md");
    let file = std::fs::read_to_string(&path)?;
    let file = replace(&file, benchmark, text).ok_or_else(|| format!("docs/benchmarks.md has no part {benchmark}"))?;
    std::fs::write(&path, file)?;
    Ok(path)
}

/// Replaces what stands below the heading of a part.
fn replace(file: &str, benchmark: &str, text: &str) -> Option<String> {
    let mark = format!("<!-- {benchmark} -->\n");
    let (before, rest) = file.split_once(&mark)?;
    // Its heading stays: the first line after the mark.
    let (heading, rest) = rest.split_once('\n')?;
    let after = rest.find("<!-- ").map_or("", |at| &rest[at..]);
    let gap = if after.is_empty() { "" } else { "\n" };
    Some(format!("{before}{mark}{heading}\n\n{}\n{gap}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_and_the_others_stay() {
        let file = "# B\n\n<!-- one -->\n## One\n\nold\n\n<!-- two -->\n## Two\n\nkept\n";
        let new = replace(file, "one", "new\n").unwrap();
        assert_eq!(new, "# B\n\n<!-- one -->\n## One\n\nnew\n\n<!-- two -->\n## Two\n\nkept\n");
        let new = replace(&new, "two", "more\n\n").unwrap();
        assert_eq!(new, "# B\n\n<!-- one -->\n## One\n\nnew\n\n<!-- two -->\n## Two\n\nmore\n");
        assert_eq!(replace(&new, "three", ""), None);
    }
}
