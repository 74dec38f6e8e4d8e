//! How long to wait before a request is made again.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// Attempts at a request, the first one included. An answer that brought bytes begins the count anew.
pub(crate) const ATTEMPTS: u32 = 6;

/// The longest wait that a server may ask for; where it asks for more, the request has failed.
pub(crate) const LONGEST: Duration = Duration::from_secs(120);

/// The wait after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(250);

/// The longest wait of our own accord.
const LONGEST_OWN: Duration = Duration::from_secs(8);

/// Returns the wait after this many failures in a row, at least as long as the server asked for; `None` where the request
/// is given up.
pub(crate) fn pause(failures: u32, asked: Option<Duration>) -> Option<Duration> {
    if failures >= ATTEMPTS || asked.is_some_and(|asked| asked > LONGEST) {
        return None;
    }
    let own = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_OWN);
    Some(asked.unwrap_or(own))
}

/// What `Retry-After` asks for, in seconds or by a date. `now` is the `Date` of the answer: this machine's clock need not
/// agree with the server's.
pub(crate) fn retry_after(value: &str, now: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = |text: &str| DateTimeParser::new().parse_timestamp(text.trim()).ok();
    let (until, now) = (moment(value)?, now.and_then(moment).unwrap_or_else(Timestamp::now));
    // One that is over asks for no pause.
    Some(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<_> = (1..=7).map(|failures| pause(failures, None).map(|wait| wait.as_millis())).collect();
        assert_eq!(waits, [Some(250), Some(500), Some(1000), Some(2000), Some(4000), None, None]);
        assert_eq!(pause(1, retry_after("7", None)), Some(Duration::from_secs(7)));
        assert_eq!(pause(1, retry_after("3600", None)), None);
    }

    #[test]
    fn a_date_is_held_against_that_of_the_answer() {
        let (until, now) = ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:27:53 GMT");
        assert_eq!(retry_after(until, Some(now)), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(now, Some(until)), Some(Duration::ZERO));
        assert!(retry_after("Fri, 31 Dec 2100 23:59:59 GMT", None) > Some(LONGEST));
        assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT", None), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", None), None);
    }
}
