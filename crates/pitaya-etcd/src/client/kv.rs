//! Keys and values.

use bytes::Bytes;

use super::{
    CALL_TIMEOUT, Client, EtcdError, KeyValue,
    call::{PUT, RANGE},
    messages::{Done, PutRequest, RangeRequest, RangeResponse},
};

/// How many keys are read at once.
const PAGE: usize = 1_000;

/// What there was at one moment.
pub(crate) struct Listed {
    pub(crate) kvs: Vec<KeyValue>,
    /// The moment.
    pub(crate) revision: i64,
}

impl Client {
    /// Reads all keys that begin with `prefix`, with or without values, at most `limit`: what is over is left out.
    pub(crate) async fn list(&self, prefix: &str, keys_only: bool, limit: usize) -> Result<Listed, EtcdError> {
        let range_end = prefix_end(prefix);
        let mut listed = Listed { kvs: Vec::new(), revision: 0 };
        let mut key = Bytes::copy_from_slice(prefix.as_bytes());
        loop {
            let page = PAGE.min(limit - listed.kvs.len());
            let request = RangeRequest {
                key,
                range_end: range_end.clone(),
                limit: page.try_into().unwrap_or(i64::MAX),
                // All pages are of the moment of the first.
                revision: listed.revision,
                keys_only,
            };
            let answer: RangeResponse = self.call(RANGE, request, CALL_TIMEOUT).await?;
            if listed.revision == 0 {
                listed.revision = answer.header.unwrap_or_default().revision;
            }
            let last = answer.kvs.last().map(|kv| kv.key.clone());
            listed.kvs.extend(answer.kvs);
            match last {
                Some(last) if answer.more && listed.kvs.len() < limit => key = after(&last),
                _ => return Ok(listed),
            }
        }
    }

    /// Reads one key.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Option<KeyValue>, EtcdError> {
        let request = RangeRequest { key, ..RangeRequest::default() };
        let answer: RangeResponse = self.call(RANGE, request, CALL_TIMEOUT).await?;
        Ok(answer.kvs.into_iter().next())
    }

    /// Writes a key that ends with a lease.
    pub(crate) async fn put(&self, key: &str, value: &str, lease: i64) -> Result<(), EtcdError> {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        let Done {} = self.call(PUT, PutRequest { key, value, lease }, CALL_TIMEOUT).await?;
        Ok(())
    }
}

/// The first key that does not begin with `prefix`, which ends with a slash.
pub(super) fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// The first key after this one.
fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}
