//! Answers in JSON.

use std::io::Read as _;

use serde::de::DeserializeOwned;

use crate::client::{Client, Failure, HubAnswer, without_query};
use crate::error::HubError;

/// The most bytes of an answer that are read. The description of a model takes about 250 for each file; none has a tenth of what
/// fits.
const MAX_JSON: u64 = 64 << 20;

/// Reads an answer in JSON; `what` is said of one that is none.
pub(crate) fn json<T: DeserializeOwned>(client: &Client, mut answer: HubAnswer, what: &str) -> Result<T, Failure> {
    let url = without_query(&answer.url);
    let mut json = Vec::new();
    let read = answer.response.body_mut().as_reader().take(MAX_JSON + 1).read_to_end(&mut json);
    read.map_err(|error| client.broken(&url, &error))?;
    let unusable = |detail| Failure::lasting(HubError::Unusable { url: url.clone(), detail });
    if json.len() as u64 > MAX_JSON {
        return Err(unusable("it is too long".to_owned()));
    }
    serde_json::from_slice(&json).map_err(|error| unusable(format!("{what} ({error})")))
}
