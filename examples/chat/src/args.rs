//! The command line.

use std::fmt;

use chat::Links;

/// Where players connect unless the command line says otherwise.
const ADDRESS: &str = "127.0.0.1:3250";

/// How the program is called.
pub(crate) const USAGE: &str = "\
The chat in one process:
  chat [ADDRESS]
One server of it, in a process of its own:
  chat gate --nats HOST:PORT --etcd HOST:PORT [ADDRESS]
  chat room --nats HOST:PORT --etcd HOST:PORT
ADDRESS is where players connect, 127.0.0.1:3250 unless given.";

/// What this process is to be.
#[derive(Debug)]
pub(crate) enum Args {
    Help,
    Chat { address: String },
    Gate { links: Links, address: String },
    Room { links: Links },
}

/// What is wrong with the command line.
#[derive(Debug)]
pub(crate) enum ArgsError {
    Unknown(String),
    NoValue(&'static str),
    Missing { role: &'static str, option: &'static str },
    NoRole(&'static str),
    RoomWithAddress(String),
}

impl Args {
    /// Reads the arguments after the name of the program.
    pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, ArgsError> {
        let mut args = args.into_iter();
        let (mut role, mut address, mut nats, mut etcd) = (None, None, None, None);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-h" | "--help" => return Ok(Self::Help),
                "gate" if role.is_none() => role = Some("gate"),
                "room" if role.is_none() => role = Some("room"),
                "--nats" => nats = Some(args.next().ok_or(ArgsError::NoValue("--nats"))?),
                "--etcd" => etcd = Some(args.next().ok_or(ArgsError::NoValue("--etcd"))?),
                // Without a port it is no address, but perhaps a role with a mistake in it.
                _ if address.is_none() && !arg.starts_with('-') && arg.contains(':') => address = Some(arg),
                _ => return Err(ArgsError::Unknown(arg)),
            }
        }
        let Some(role) = role else {
            let option = nats.map(|_| "--nats").or(etcd.map(|_| "--etcd"));
            return match option {
                Some(option) => Err(ArgsError::NoRole(option)),
                None => Ok(Self::Chat { address: address.unwrap_or_else(|| ADDRESS.to_owned()) }),
            };
        };
        let nats = nats.ok_or(ArgsError::Missing { role, option: "--nats" })?;
        let etcd = etcd.ok_or(ArgsError::Missing { role, option: "--etcd" })?;
        let links = Links::Network { nats, etcd };
        match (role, address) {
            ("room", Some(address)) => Err(ArgsError::RoomWithAddress(address)),
            ("room", None) => Ok(Self::Room { links }),
            (_, address) => Ok(Self::Gate { links, address: address.unwrap_or_else(|| ADDRESS.to_owned()) }),
        }
    }
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(arg) => write!(f, "{arg:?} is neither an option nor an address with a port"),
            Self::NoValue(option) => write!(f, "{option} needs an address, such as {option} 127.0.0.1:4222"),
            Self::Missing { role, option } => write!(f, "a {role} finds the other servers by {option} HOST:PORT"),
            Self::NoRole(option) => write!(f, "with {option}, say whether this process is a gate or a room"),
            Self::RoomWithAddress(address) => write!(f, "players connect to a gate; a room has no address {address}"),
        }
    }
}
