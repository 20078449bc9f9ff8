//! Logging in, and seeing whether a member serves.

use tonic::transport::Channel;

use super::{
    EtcdError,
    call::{AUTHENTICATE, RANGE, one},
    endpoints::Token,
    messages::{AuthenticateRequest, AuthenticateResponse, RangeRequest, RangeResponse},
};

/// A user of etcd. Shown nowhere.
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// Logs in; the token is sent with each call from then on. How long it is good for is etcd's decision.
/// An etcd without users needs none.
pub(super) async fn log_in(channel: &Channel, endpoint: &str, login: &Login) -> Result<Option<Token>, EtcdError> {
    let request = AuthenticateRequest { name: login.user.clone(), password: login.password.clone() };
    let answer: AuthenticateResponse = match one(channel, endpoint, None, AUTHENTICATE, request).await {
        Err(EtcdError::NoLogin) => return Ok(None),
        answer => answer?,
    };
    let mut token = Token::try_from(answer.token).map_err(|_| EtcdError::Login("its token is no text".to_owned()))?;
    token.set_sensitive(true);
    Ok(Some(token))
}

/// Asks for a key that need not be there. A member that is cut off from the others cannot answer.
pub(super) async fn probe(
    channel: &Channel,
    endpoint: &str,
    token: Option<&Token>,
    key: &str,
) -> Result<(), EtcdError> {
    let request = RangeRequest { key: key.to_owned().into(), keys_only: true, limit: 1, ..RangeRequest::default() };
    let answer: Result<RangeResponse, _> = one(channel, endpoint, token, RANGE, request).await;
    match answer {
        Err(EtcdError::Token) => Err(EtcdError::Login("it wants a user and a password".to_owned())),
        // It has asked the others before it said so. The user may have the keys of servers only.
        Err(EtcdError::Denied(_)) => Ok(()),
        answer => answer.map(drop),
    }
}
