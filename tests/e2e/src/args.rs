//! The command line: the flags of Go's test server, in Go's syntax.

use std::fmt;

/// How the program is called.
pub(crate) const USAGE: &str = "\
e2e-server [-type TYPE] [-port PORT] [-frontend=BOOL] [-sdprefix PREFIX] [-grpc=BOOL] [-grpcport PORT] [-debug]
  -type      the server type (connector)
  -port      where a frontend listens on 127.0.0.1 (32222)
  -frontend  whether clients connect to it (true)
  -sdprefix  what the keys in etcd begin with (pitaya/)
  -grpc      refused: there is no gRPC adapter (false)
  -grpcport  not used (3434)
  -debug     logs more (false)";

/// What the flags say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) kind: String,
    pub(crate) port: u16,
    pub(crate) frontend: bool,
    pub(crate) sd_prefix: String,
    pub(crate) grpc: bool,
    pub(crate) debug: bool,
}

/// What is wrong with the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ArgsError {
    Unknown(String),
    NoValue(String),
    Wrong { flag: String, value: String },
}

impl Default for Args {
    fn default() -> Self {
        let (kind, sd_prefix) = ("connector".to_owned(), "pitaya/".to_owned());
        Self { kind, port: 32222, frontend: true, sd_prefix, grpc: false, debug: false }
    }
}

impl Args {
    /// Reads the arguments after the name of the program. As in Go, a flag has one dash or two and its value after `=` or as
    /// the next argument; that of a boolean only after `=`, and without one it is true.
    pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, ArgsError> {
        let mut parsed = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let flag = flag.ok_or_else(|| ArgsError::Unknown(arg.clone()))?;
            let (name, mut value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if matches!(name, "frontend" | "grpc" | "debug") {
                value.get_or_insert_with(|| "true".to_owned());
            }
            let value = value.or_else(|| args.next()).ok_or_else(|| ArgsError::NoValue(name.to_owned()))?;
            match name {
                "type" => parsed.kind = value,
                "port" => parsed.port = checked(name, value)?,
                "frontend" => parsed.frontend = truth(name, value)?,
                "sdprefix" => parsed.sd_prefix = value,
                "grpc" => parsed.grpc = truth(name, value)?,
                "grpcport" => drop(checked::<u16>(name, value)?),
                "debug" => parsed.debug = truth(name, value)?,
                _ => return Err(ArgsError::Unknown(arg)),
            }
        }
        Ok(parsed)
    }
}

fn checked<T: std::str::FromStr>(flag: &str, value: String) -> Result<T, ArgsError> {
    value.parse().map_err(|_| ArgsError::Wrong { flag: flag.to_owned(), value })
}

/// What Go reads as a boolean.
fn truth(flag: &str, value: String) -> Result<bool, ArgsError> {
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ArgsError::Wrong { flag: flag.to_owned(), value }),
    }
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(arg) => write!(f, "{arg:?} is no flag of this program"),
            Self::NoValue(flag) => write!(f, "-{flag} needs a value"),
            Self::Wrong { flag, value } => write!(f, "{value:?} is no value for -{flag}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, ArgsError> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_flags_of_the_suite_are_read() {
        let line = "-type game -port 0 -frontend=false -sdprefix 6f/ -grpcport 4 -grpc=false -debug";
        let expected =
            Args { kind: "game".into(), port: 0, frontend: false, sd_prefix: "6f/".into(), grpc: false, debug: true };
        assert_eq!(parse(line), Ok(expected));
        assert_eq!(parse(""), Ok(Args::default()));
        assert_eq!(parse("--port=7 -grpc").unwrap(), Args { port: 7, grpc: true, ..Args::default() });
    }

    #[test]
    fn mistakes_are_told() {
        let wrong = |flag: &str, value: &str| ArgsError::Wrong { flag: flag.into(), value: value.into() };
        assert_eq!(parse("-port 70000").unwrap_err(), wrong("port", "70000"));
        assert_eq!(parse("-frontend=perhaps").unwrap_err(), wrong("frontend", "perhaps"));
        assert_eq!(parse("-type").unwrap_err(), ArgsError::NoValue("type".into()));
        assert_eq!(parse("-frontend false").unwrap_err(), ArgsError::Unknown("false".into()));
        assert_eq!(parse("-serializer json").unwrap_err(), ArgsError::Unknown("-serializer".into()));
    }
}
