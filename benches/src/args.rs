//! Command lines of the form `--name value`, with as little code as three programs need.

use std::str::FromStr;

/// The words of a command line that nobody has taken yet.
#[derive(Debug)]
pub struct Args(Vec<String>);

impl Args {
    /// The command line of this process.
    #[must_use]
    pub fn from_env() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// Takes the first value of `name`, or `None` if it is not there.
    ///
    /// # Errors
    ///
    /// If the value is missing or cannot be parsed.
    pub fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String>
    where
        T::Err: std::fmt::Display,
    {
        let Some(at) = self.0.iter().position(|word| word == name) else {
            return Ok(None);
        };
        if at + 1 == self.0.len() {
            return Err(format!("{name} needs a value"));
        }
        let text = self.0.remove(at + 1);
        self.0.remove(at);
        text.parse().map(Some).map_err(|error| format!("{name} {text}: {error}"))
    }

    /// Takes the word `name`; whether it was there.
    pub fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|word| word == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    /// Ends the parsing.
    ///
    /// # Errors
    ///
    /// If a word is left over.
    pub fn finish(self) -> Result<(), String> {
        match self.0.first() {
            Some(word) => Err(format!("unknown argument `{word}`")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args(line.split_whitespace().map(String::from).collect())
    }

    #[test]
    fn words_are_taken_once() {
        let mut args = args("--a 1 --quick --a 2");
        assert_eq!(args.value("--a"), Ok(Some(1)));
        assert_eq!(args.value("--a"), Ok(Some(2)));
        assert_eq!(args.value::<u8>("--a"), Ok(None));
        assert!(args.flag("--quick"));
        assert_eq!(args.finish(), Ok(()));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(args("--a x").value::<u8>("--a").is_err());
        assert!(args("--a").value::<u8>("--a").is_err());
        assert!(args("--b").finish().is_err());
    }
}
