//! A connection's socket.

use pitaya_bench::lane::Lane;
use pitaya_bench::stats::Stats;
use pitaya_bench::{Transport, client};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The side of a connection that writes. The side that reads belongs to its task.
pub(crate) struct Connection {
    pub(crate) lane: RefCell<Lane>,
    write: OwnedWriteHalf,
}

impl Connection {
    /// Opens a connection as far as the acknowledged handshake.
    pub(crate) async fn open(
        addr: SocketAddr,
        transport: Transport,
        in_flight: usize,
    ) -> io::Result<(Self, OwnedReadHalf)> {
        let stream = client::open(addr, None, transport).await?;
        let (read, write) = stream.into_split();
        let lane = RefCell::new(Lane::new(transport, in_flight));
        Ok((Self { lane, write }, read))
    }

    /// Writes what the lane has put out, all at once.
    pub(crate) fn flush(&self, lane: &mut Lane, stats: &mut Stats) -> io::Result<()> {
        if lane.output.is_empty() {
            return Ok(());
        }
        // A few requests always fit in the socket's buffer, unless the server stopped reading.
        let written = self.write.try_write(&lane.output)?;
        if written < lane.output.len() {
            return Err(io::Error::other("the socket is full: fewer in flight, please"));
        }
        lane.output.clear();
        stats.writes += 1;
        Ok(())
    }
}
