//! What looks at a client's handshake before it is accepted.

use std::sync::Arc;

use pitaya_protocol::HandshakeData;

use super::{Session, binding::guard};
use crate::{Error, Result};

/// Runs the validators in the order of registration, until the first that refuses (protocol.md 2.4). A panic and taking
/// longer than a step may are refusals, too.
pub(super) async fn validate(session: Session, handshake: Arc<HandshakeData>) -> Result<()> {
    let pool = session.0.pool.clone();
    for validator in pool.validators() {
        let check = || (validator.check)(session.clone(), Arc::clone(&handshake));
        let checked = guard(pool.step_timeout(), "handshake", check).await.and_then(|checked| checked);
        if let Err(error) = checked {
            tracing::debug!(session = %session.id(), validator = &*validator.name, %error, "handshake refused");
            return Err(error);
        }
    }
    // A validator may have closed the session instead of refusing it.
    if session.is_closed() { Err(Error::plain("the session has closed")) } else { Ok(()) }
}
