//! Leases: keys that end unless somebody keeps them alive.

use std::time::Duration;

use super::{
    CALL_TIMEOUT, Client, EtcdError,
    call::{LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE},
    messages::{Done, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseRequest},
};

impl Client {
    /// A new lease that lives for `seconds` unless it is kept alive.
    pub(crate) async fn grant(&self, seconds: i64) -> Result<i64, EtcdError> {
        let request = LeaseGrantRequest { ttl: seconds };
        let answer: LeaseGrantResponse = self.call(LEASE_GRANT, request, CALL_TIMEOUT).await?;
        if answer.error.is_empty() { Ok(answer.id) } else { Err(EtcdError::Refused(answer.error)) }
    }

    /// Lets a lease live for its whole time again.
    ///
    /// # Errors
    ///
    /// It has ended, or nobody answers within `limit`, which is for each member.
    pub(crate) async fn keep_alive(&self, id: i64, limit: Duration) -> Result<(), EtcdError> {
        let request = LeaseRequest { id };
        let answer: LeaseKeepAliveResponse = self.call(LEASE_KEEP_ALIVE, request, limit.min(CALL_TIMEOUT)).await?;
        if answer.ttl > 0 { Ok(()) } else { Err(EtcdError::LeaseEnded) }
    }

    /// Ends a lease, and its keys with it.
    pub(crate) async fn revoke(&self, id: i64, limit: Duration) -> Result<(), EtcdError> {
        match self.call(LEASE_REVOKE, LeaseRequest { id }, limit).await {
            Ok(Done {}) | Err(EtcdError::LeaseEnded) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
