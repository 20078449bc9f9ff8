//! Service discovery of Pitaya in Rust on etcd v3.
//!
//! Each server writes a key `<prefix>servers/<type>/<id>` with a description of itself, which lives as long as the server
//! renews it, and watches the keys of the others. Go Pitaya uses the same keys and values, so that servers of both find each
//! other.
//!
//! ```no_run
//! use pitaya_core::config::Config;
//! use pitaya_etcd::EtcdDiscovery;
//!
//! # fn main() -> pitaya_core::Result<()> {
//! let discovery = EtcdDiscovery::new(&Config::default())?;
//! # drop(discovery);
//! # Ok(())
//! # }
//! ```
//!
//! # When etcd is away
//!
//! * The servers that were known stay known. A list is never emptied because nobody answers.
//! * One endpoint is used at a time. When it does not answer, the next one is tried.
//! * A server whose lease was lost (etcd was away for longer than [`settings::HEARTBEAT_TTL`], or came back without its data)
//!   registers again by itself. It never gives up, unless [`settings::GRANT_TIMEOUT`] or [`settings::GRANT_MAX_RETRIES`] is
//!   set, by somebody or by a preset: then it asks its server to stop.
//! * A watch that breaks goes on where it was. When etcd has forgotten the changes since then, or has lost its data, all
//!   keys are read again and compared. After a loss of data, servers that are missing are forgotten only after one
//!   [`settings::HEARTBEAT_TTL`]: they are registering again, too.
//! * A key that is no server of ours (`null`, garbage, a key that does not fit to its value, names that are none) is left out,
//!   and logged once.

mod client;
mod discovery;
mod options;
pub mod settings;

pub use discovery::EtcdDiscovery;
