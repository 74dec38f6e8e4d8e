//! Requests and their answers: redirects, refusals, and what may pass if it is tried again.

use std::io;
use std::ops::Range;
use std::time::Duration;

use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, DATE, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{HeaderMap, HeaderName, Response};
use ureq::{Agent, Body, Proxy, ProxyProtocol, Timeout};

use crate::access::HubAccess;
use crate::address::{HostOrigin, redirected};
use crate::error::HubError;
use crate::pause::{LONGEST, retry_after};

/// Redirects that are followed: from the hub to its cache and on to a CDN.
const REDIRECTS: usize = 5;

/// The longest that a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(15);

/// The longest that a server may take to begin an answer and that it may pause within one, unless `HF_HUB_DOWNLOAD_TIMEOUT`
/// says otherwise.
const STALL: Duration = Duration::from_secs(30);

/// The longest that an answer may take as a whole: a server that sends a byte now and then must not hold a run for ever.
const WHOLE: Duration = Duration::from_secs(300);

/// Connections that are kept for the next request.
const IDLE: usize = 32;

/// A client of one hub.
pub(crate) struct Client {
    pub(crate) agent: Agent,
    pub(crate) access: HubAccess,
}

/// What is asked for, for the words of a refusal.
#[derive(Clone, Copy)]
pub(crate) struct AskedFor<'a> {
    pub(crate) id: &'a str,
    pub(crate) revision: &'a str,
    /// Set where it is the description of the model and not one of its files.
    pub(crate) is_model: bool,
}

/// An answer of status 200 or 206.
pub(crate) struct HubAnswer {
    pub(crate) response: Response<Body>,
    /// The address that gave it, after all redirects.
    pub(crate) url: String,
    /// Headers of the hub's own answer, where that one was a redirect.
    pub(crate) first: HeaderMap,
}

/// A failed attempt.
pub(crate) struct Failure {
    pub(crate) error: HubError,
    /// Whether another attempt may succeed.
    pub(crate) may_pass: bool,
    /// The pause that the server asks for.
    pub(crate) asked: Option<Duration>,
}

impl Failure {
    pub(crate) fn lasting(error: HubError) -> Self {
        Self { error, may_pass: false, asked: None }
    }

    pub(crate) fn passing(error: HubError) -> Self {
        Self { error, may_pass: true, asked: None }
    }
}

impl Client {
    pub(crate) fn new(access: HubAccess) -> Self {
        let stall = std::env::var("HF_HUB_DOWNLOAD_TIMEOUT").ok().and_then(|seconds| seconds.parse().ok());
        let stall = stall.filter(|&seconds| seconds > 0).map_or(STALL, Duration::from_secs);
        let config = Agent::config_builder()
            .user_agent(concat!("qwen-fp8/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Followed here, where it is known which host may have the token.
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(stall))
            .timeout_recv_body(Some(WHOLE))
            .timeout_per_read(Some(stall))
            .timeout_per_write(Some(stall))
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE)
            .build();
        Self { agent: config.new_agent(), access }
    }

    /// Asks for an address, or for a range of the bytes behind it, once; redirects are followed.
    pub(crate) fn get(
        &self,
        url: &str,
        range: Option<Range<u64>>,
        subject: AskedFor<'_>,
    ) -> Result<HubAnswer, Failure> {
        let (mut url, mut first) = (url.to_owned(), None);
        for _ in 0..=REDIRECTS {
            let origin = HostOrigin::of(&url).ok_or_else(|| unfollowed(&url, &url))?;
            self.check_proxy(&url)?;
            let mut request = self.agent.get(&url).header(ACCEPT_ENCODING, "identity");
            if let Some(token) = self.access.token_for(&origin) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            if let Some(range) = &range {
                request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
            }
            let response = request.call().map_err(|error| self.unreachable(&url, &error))?;
            let status = response.status().as_u16();
            match status {
                200 | 206 => {
                    let first = first.unwrap_or_else(|| response.headers().clone());
                    return Ok(HubAnswer { response, url, first });
                }
                301 | 302 | 303 | 307 | 308 => {
                    let location = text(response.headers(), &LOCATION).unwrap_or_default();
                    let to = redirected(&url, location).ok_or_else(|| unfollowed(&url, location))?;
                    if let Some(renamed) = renamed(&to, subject) {
                        return Err(Failure::lasting(renamed));
                    }
                    first.get_or_insert_with(|| response.headers().clone());
                    url = to;
                }
                _ if origin != self.access.origin => return Err(refused_elsewhere(url, status, response.headers())),
                _ => return Err(self.refused(url, status, response.headers(), subject)),
            }
        }
        Err(Failure::lasting(HubError::Redirects { url }))
    }

    /// Turns a connection that came to nothing into words: with the proxy, if it went to one, which may be at fault.
    pub(crate) fn unreachable(&self, url: &str, error: &ureq::Error) -> Failure {
        let proxy = self.proxy_for(url).map(address_of);
        Failure::passing(HubError::Unreachable { url: without_query(url), proxy, reason: reason(error) })
    }

    /// Refuses a proxy that speaks SOCKS: the library would leave it out, and connect without it or not at all.
    pub(crate) fn check_proxy(&self, url: &str) -> Result<(), Failure> {
        let proxy = self.proxy_for(url).filter(|proxy| !is_http(proxy.protocol()));
        let Some(proxy) = proxy.map(address_of) else { return Ok(()) };
        let reason = "it speaks SOCKS, and one that speaks HTTP is needed".to_owned();
        Err(Failure::lasting(HubError::Unreachable { url: without_query(url), proxy: Some(proxy), reason }))
    }

    /// The proxy that the variables of this process name for an address.
    fn proxy_for(&self, url: &str) -> Option<&Proxy> {
        let uri = url.parse().ok()?;
        self.agent.config().proxy().filter(|proxy| !proxy.is_no_proxy(&uri))
    }

    /// Turns an answer that broke off into words.
    pub(crate) fn broken(&self, url: &str, error: &io::Error) -> Failure {
        match error.get_ref().and_then(|error| error.downcast_ref()) {
            Some(error) => self.unreachable(url, error),
            None => {
                let (url, reason) = (without_query(url), error.to_string());
                Failure::passing(HubError::Unreachable { url, proxy: None, reason })
            }
        }
    }

    /// Turns a status of the hub itself into words.
    fn refused(&self, url: String, status: u16, headers: &HeaderMap, subject: AskedFor<'_>) -> Failure {
        let (has_token, id) = (self.access.has_token(), subject.id.to_owned());
        let code = text(headers, &HeaderName::from_static("x-error-code")).unwrap_or_default();
        let no_model = |id| HubError::NoModel { id, endpoint: self.access.endpoint.clone(), has_token };
        Failure::lasting(match (status, code) {
            (401 | 403, "GatedRepo") => {
                let page = format!("{}/{id}", self.access.endpoint);
                HubError::Gated { id, url, page, has_token }
            }
            // The hub does not tell strangers whether a model is private or not there.
            (401 | 404, "RepoNotFound") => no_model(id),
            (404, "RevisionNotFound") => HubError::NoRevision { id, revision: subject.revision.to_owned() },
            (404, "EntryNotFound") => HubError::NoFile { url },
            (401 | 404, _) if subject.is_model => no_model(id),
            (401 | 403, _) => HubError::Forbidden { url, has_token },
            (404 | 410, _) => HubError::NoFile { url },
            _ => return passing(url, status, headers, has_token),
        })
    }
}

/// Turns a status of another host, such as a CDN, into words. Its address may have expired: the hub gives a new one.
fn refused_elsewhere(url: String, status: u16, headers: &HeaderMap) -> Failure {
    match status {
        401 | 403 | 404 | 410 => Failure::passing(HubError::Status { url: without_query(&url), status }),
        _ => passing(without_query(&url), status, headers, true),
    }
}

/// Turns a status that has nothing to do with rights into words, and says whether it may pass.
pub(crate) fn passing(url: String, status: u16, headers: &HeaderMap, has_token: bool) -> Failure {
    let asked = text(headers, &RETRY_AFTER).and_then(|value| retry_after(value, text(headers, &DATE)));
    let may_pass = matches!(status, 408 | 429 | 500 | 502 | 503 | 504);
    let error = match status {
        429 => {
            let seconds = asked.filter(|asked| *asked > LONGEST).map(|asked| asked.as_secs());
            HubError::TooMany { url, seconds, has_token }
        }
        status => HubError::Status { url, status },
    };
    Failure { error, may_pass, asked }
}

/// The model's new name, where a redirect leads to the description or to a file of another model on the same hub.
fn renamed(to: &str, subject: AskedFor<'_>) -> Option<HubError> {
    let (_, path) = to.split_once("://")?.1.split_once('/')?;
    let name =
        if subject.is_model { path.split_once("api/models/")?.1.split_once("/revision/")?.0 } else { return None };
    let is_same = name.eq_ignore_ascii_case(subject.id);
    (!is_same && !name.is_empty()).then(|| HubError::Renamed {
        from: subject.id.to_owned(),
        to: name.to_owned(),
        revision: (subject.revision != "main").then(|| subject.revision.to_owned()),
    })
}

fn unfollowed(url: &str, to: &str) -> Failure {
    Failure::lasting(HubError::Redirect { url: without_query(url), to: without_query(to) })
}

/// An address for a message: what follows a question mark may be the signature that opens it.
pub(crate) fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// A proxy's address, without the user and password that may be in it.
fn address_of(proxy: &Proxy) -> String {
    format!("{}:{}", proxy.host(), proxy.port())
}

fn is_http(protocol: ProxyProtocol) -> bool {
    matches!(protocol, ProxyProtocol::Http | ProxyProtocol::Https)
}

/// The words for an error of a connection.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => "no connection came about in time".to_owned(),
        ureq::Error::Timeout(_) => "no answer came in time".to_owned(),
        ureq::Error::HostNotFound => "no host of that name was found".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// A header as text; `None` where it is absent or no text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
