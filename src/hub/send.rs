//! Requests that send something, and the refusals of those that do not take it.

use std::io::Read;

use serde_json::Value;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use ureq::http::{HeaderName, Request, Response};
use ureq::{Body, SendBody};

use crate::address::HostOrigin;
use crate::client::{Client, Failure, HubAnswer, passing, text, without_query};
use crate::error::HubError;

/// The kinds of what is sent.
pub(crate) const JSON: &str = "application/json";
pub(crate) const JSON_LINES: &str = "application/x-ndjson";
pub(crate) const LFS_JSON: &str = "application/vnd.git-lfs+json";
pub(crate) const BYTES: &str = "application/octet-stream";

/// The most bytes of a refusal that are read.
const MAX_REFUSAL: u64 = 16 << 10;

/// The most characters of a refusal that are shown.
const SHOWN: usize = 300;

/// A request that sends something.
pub(crate) struct Outgoing<'a> {
    pub(crate) method: &'static str,
    pub(crate) url: &'a str,
    /// Headers that the hub has asked for.
    pub(crate) headers: &'a [(String, String)],
    pub(crate) kind: &'static str,
    pub(crate) body: &'a mut dyn Read,
    /// Bytes of the body.
    pub(crate) len: u64,
}

impl Client {
    /// Sends JSON once.
    pub(crate) fn post(&self, url: &str, kind: &'static str, json: &Value) -> Result<HubAnswer, Failure> {
        let text = json.to_string();
        let (len, mut body) = (text.len() as u64, text.as_bytes());
        self.send(Outgoing { method: "POST", url, headers: &[], kind, body: &mut body, len })
    }

    /// Sends something once. The token goes to the hub alone, and no redirect is followed.
    pub(crate) fn send(&self, outgoing: Outgoing<'_>) -> Result<HubAnswer, Failure> {
        let Outgoing { method, url, headers, kind, body, len } = outgoing;
        let unusable = |detail: String| Failure::lasting(HubError::Unusable { url: without_query(url), detail });
        let origin = HostOrigin::of(url).ok_or_else(|| unusable("it is no address to send to".to_owned()))?;
        if self.access.origin.is_secure() && !origin.is_secure() {
            return Err(unusable("what was encrypted is not sent there".to_owned()));
        }
        self.check_proxy(url)?;
        let mut request =
            Request::builder().method(method).uri(url).header(CONTENT_TYPE, kind).header(CONTENT_LENGTH, len);
        if let Some(token) = self.access.token_for(&origin) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(SendBody::from_reader(body)).map_err(|error| unusable(error.to_string()))?;
        let response = self.agent.run(request).map_err(|error| self.unreachable(url, &error))?;
        if response.status().is_success() {
            return Ok(HubAnswer { first: response.headers().clone(), response, url: url.to_owned() });
        }
        Err(self.not_taken(url, response, origin == self.access.origin))
    }

    /// Turns the status of an answer that takes nothing into words, with those of the server.
    fn not_taken(&self, url: &str, response: Response<Body>, is_hub: bool) -> Failure {
        let (status, has_token) = (response.status().as_u16(), self.access.has_token());
        let url = without_query(url);
        if matches!(status, 408 | 429 | 500 | 502 | 503 | 504) {
            return passing(url, status, response.headers(), has_token);
        }
        let said = said(response);
        match status {
            // The address that the hub gave for it may have expired: it gives a new one.
            401 | 403 | 404 | 410 if !is_hub => Failure::passing(HubError::Refused { url, status, said }),
            401 => Failure::lasting(HubError::NotWritable { url, said, has_token }),
            403 | 404 if said.is_empty() => Failure::lasting(HubError::NotWritable { url, said, has_token }),
            _ => Failure::lasting(HubError::Refused { url, status, said }),
        }
    }
}

/// What a server says of a refusal, on one line.
fn said(mut response: Response<Body>) -> String {
    let header = text(response.headers(), &HeaderName::from_static("x-error-message")).map(str::to_owned);
    let mut bytes = Vec::new();
    // Half of a message is better than none.
    let _ = response.body_mut().as_reader().take(MAX_REFUSAL).read_to_end(&mut bytes);
    let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let told = ["error", "message"].iter().find_map(|key| json.get(key).and_then(Value::as_str)).map(str::to_owned);
    let line = header.or(told).unwrap_or_default();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}
