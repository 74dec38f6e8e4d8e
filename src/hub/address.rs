//! Addresses: the origin that a token belongs to, and where a redirect leads.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::Uri;

/// Characters of a path's part that stand as they are.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostOrigin {
    is_secure: bool,
    host: String,
    port: u16,
}

impl HostOrigin {
    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The origin of an address; `None` where it is none of HTTP.
    pub(crate) fn of(address: &str) -> Option<Self> {
        let uri: Uri = address.parse().ok()?;
        let is_secure = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        Some(Self { is_secure, host, port: uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 }) })
    }
}

/// Where a redirect from `address` leads; `None` where that is no address, or would give up encryption.
pub(crate) fn redirected(address: &str, location: &str) -> Option<String> {
    let to = if location.starts_with('/') && !location.starts_with("//") {
        let (scheme, rest) = address.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        format!("{scheme}://{host}{location}")
    } else {
        location.to_owned()
    };
    let (from, origin) = (HostOrigin::of(address)?, HostOrigin::of(&to)?);
    (origin.is_secure || !from.is_secure).then_some(to)
}

/// One part of a path, such as a revision, whose slashes are none of the path's.
pub(crate) fn part(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A path of several parts.
pub(crate) fn path(text: &str) -> String {
    text.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_encrypted_and_are_completed() {
        let led = |location| redirected("https://hub.example/a/b?c", location);
        assert_eq!(led("/x?y").as_deref(), Some("https://hub.example/x?y"));
        assert_eq!(led("https://cdn.example/x").as_deref(), Some("https://cdn.example/x"));
        for refused in ["http://cdn.example/x", "ftp://cdn.example/x", "x", "//cdn.example/x", "", "file:///etc/passwd"]
        {
            assert_eq!(led(refused), None, "{refused}");
        }
        assert_eq!(redirected("http://127.0.0.1:1/a", "/b").as_deref(), Some("http://127.0.0.1:1/b"));
    }

    #[test]
    fn paths_are_encoded_part_by_part() {
        assert_eq!(path("a b/c?d#e.json"), "a%20b/c%3Fd%23e.json");
        assert_eq!(part("refs/pr/1"), "refs%2Fpr%2F1");
    }
}
