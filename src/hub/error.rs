//! What can go wrong between this machine and the hub, with what to do about each.

use std::io;
use std::path::{Path, PathBuf};

use qwen_fp8_checkpoint::remote::{RemoteError, RemoteFailure};
use qwen_fp8_checkpoint::text::{exact, shown, shown_path};

/// A reason for which the hub did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("`HF_ENDPOINT` is {}, which is no address of a hub", shown(address))]
    Endpoint { address: String },
    #[error("the token for the hub holds characters that no token has")]
    Token,
    #[error("{} cannot be reached{}: {reason}", shown(url), proxy.as_ref().map_or_else(String::new, |proxy| format!(" by way of the proxy {}", shown(proxy))))]
    Unreachable { url: String, proxy: Option<String>, reason: String },
    #[error("{} is no model of {} that {}", shown(id), shown(endpoint), if *has_token { "this token may read" } else { "can be read without a token" })]
    NoModel { id: String, endpoint: String, has_token: bool },
    #[error("{} is on the hub, but not its revision {}", shown(id), shown(revision))]
    NoRevision { id: String, revision: String },
    #[error("{} was renamed to {}", shown(from), shown(to))]
    Renamed { from: String, to: String, revision: Option<String> },
    #[error("{} is gated: {} may be read only once its conditions are accepted", shown(id), shown(url))]
    Gated { id: String, url: String, page: String, has_token: bool },
    #[error("{} may not be read{}", shown(url), if *has_token { " with this token" } else { " without a token" })]
    Forbidden { url: String, has_token: bool },
    #[error("{} is not there", shown(url))]
    NoFile { url: String },
    #[error("{} is asked for too often, and its server wants a pause{}", shown(url), seconds.map_or_else(String::new, |seconds| format!(" of {seconds} s")))]
    TooMany { url: String, seconds: Option<u64>, has_token: bool },
    #[error("{} was answered with status {status}", shown(url))]
    Status { url: String, status: u16 },
    #[error("{} is redirected to {}, which is not followed", shown(url), shown(to))]
    Redirect { url: String, to: String },
    #[error("{} is redirected over and over again", shown(url))]
    Redirects { url: String },
    #[error("{} was asked for a part of it, and its server sent another: {found}", shown(url))]
    WrongRange { url: String, found: String },
    #[error("the connection for {} ended early", shown(url))]
    Dropped { url: String },
    #[error("{} has {}, and {} were listed", shown(url), exact(*found), exact(*listed))]
    Size { url: String, listed: u64, found: u64 },
    #[error("{} is a git-lfs pointer, not the file itself", shown(url))]
    LfsPointer { url: String },
    #[error("the commit is {} and that of {} another: {}", shown(pinned), shown(url), shown(found))]
    OtherCommit { url: String, pinned: String, found: String },
    #[error("{} lists a file by the name {}, which leads elsewhere", shown(url), shown(name))]
    FileName { url: String, name: String },
    #[error("the answer of {} cannot be used: {detail}", shown(url))]
    Unusable { url: String, detail: String },
    #[error("{} is not what is listed: its hash is {found}, and {listed} was listed", shown(url))]
    Spoilt { url: String, listed: String, found: String },
    #[error("cannot {what} {}: {error}", shown_path(path))]
    File { what: &'static str, path: PathBuf, error: io::Error },
    #[error("the work was cancelled")]
    Cancelled,
    #[error("nothing can be pushed to {} without a token", shown(id))]
    NoToken { id: String },
    #[error("{} may not be written{}{}", shown(url), if *has_token { " with this token" } else { " without a token" }, of_server(said))]
    NotWritable { url: String, said: String, has_token: bool },
    #[error("{} was answered with status {status}{}", shown(url), of_server(said))]
    Refused { url: String, status: u16, said: String },
    #[error("there is something in {} already: {}", shown(address), shown(found))]
    Occupied { address: String, found: String },
    #[error("somebody else has pushed to {} since this run began", shown(address))]
    Moved { address: String },
    #[error("{} is there already", shown_path(path))]
    Exists { path: PathBuf },
    #[error("another process pushes the same: it holds {}", shown_path(dir))]
    Busy { dir: PathBuf },
}

impl HubError {
    /// Makes the error of a file on this machine that something was tried with.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::File { what, path: path.to_owned(), error }
    }

    /// Returns whether another model or another right would help, and not another try.
    pub fn is_of_input(&self) -> bool {
        matches!(
            self,
            Self::Endpoint { .. }
                | Self::Token
                | Self::NoModel { .. }
                | Self::NoRevision { .. }
                | Self::Renamed { .. }
                | Self::Gated { .. }
                | Self::Forbidden { .. }
                | Self::LfsPointer { .. }
                | Self::NoToken { .. }
                | Self::NotWritable { .. }
                | Self::Occupied { .. }
        )
    }
}

impl RemoteFailure for HubError {
    fn help(&self) -> Vec<String> {
        const LOG_IN: &str = "log in with `hf auth login`, or set `HF_TOKEN`";
        const OTHER_TOKEN: &str = "set `HF_TOKEN` to a token that may read it, or log in with `hf auth login`";
        const AGAIN: &str = "give the same command again later: what is finished is kept";
        let line = match self {
            Self::Endpoint { .. } => {
                "an address is like `https://huggingface.co`; without the variable the hub is asked"
            }
            Self::Token => "look at `HF_TOKEN` and at the file that `hf auth login` writes",
            Self::Unreachable { proxy: Some(_), .. } => {
                "a variable like `HTTPS_PROXY` or `ALL_PROXY` names the proxy; `NO_PROXY` lists hosts that are asked without it"
            }
            Self::Unreachable { .. } => {
                "`HTTPS_PROXY` names a proxy and `HF_ENDPOINT` a mirror; `HF_HUB_OFFLINE=1` asks nobody"
            }
            Self::NoModel { has_token, .. } => {
                let private = if *has_token { OTHER_TOKEN } else { LOG_IN };
                return vec!["check its spelling".to_owned(), format!("if it is private, {private}")];
            }
            Self::NoRevision { .. } => "a revision is a branch, a tag or a commit; without one `main` is read",
            Self::Renamed { to, revision, .. } => {
                let to = revision.as_ref().map_or_else(|| to.clone(), |revision| format!("{to}@{revision}"));
                return vec![format!("write {} for it", shown(&to))];
            }
            Self::Gated { page, has_token, .. } => {
                let token = if *has_token { "" } else { ", then log in with `hf auth login`, or set `HF_TOKEN`" };
                return vec![format!("accept the conditions at {page}{token}")];
            }
            Self::Forbidden { has_token: true, .. } => OTHER_TOKEN,
            Self::Forbidden { .. } => LOG_IN,
            Self::TooMany { has_token: false, .. } => {
                "the hub lets those ask more often who log in: `hf auth login`, or `HF_TOKEN`"
            }
            Self::TooMany { .. } | Self::Status { status: 500.., .. } | Self::Dropped { .. } => AGAIN,
            Self::NoFile { .. } | Self::OtherCommit { .. } | Self::Size { .. } => {
                "the repository may have changed meanwhile: give the same command again"
            }
            Self::Spoilt { .. } => {
                "the same command fetches it once more; if that changes nothing, its server or a proxy is at fault"
            }
            Self::LfsPointer { .. } => "the repository or its mirror lacks the file: ask its owner for it",
            Self::WrongRange { .. } => {
                "its server or a proxy on the way does not serve parts of files: `hf download` gets them whole"
            }
            Self::FileName { .. } | Self::Unusable { .. } | Self::Redirect { .. } | Self::Redirects { .. } => {
                "check whether `HF_ENDPOINT` and the proxy are what they should be"
            }
            Self::NoToken { .. } | Self::NotWritable { has_token: false, .. } => LOG_IN,
            Self::NotWritable { .. } => {
                "set `HF_TOKEN` to a token with the right to write, or log in with `hf auth login`"
            }
            // Storage that is used up, or a plan that is to be paid for.
            Self::Refused { status: 402 | 403 | 413 | 507, .. } => {
                "the account or its organization has to allow it; the same command goes on where it was"
            }
            Self::Refused { .. } => AGAIN,
            Self::Occupied { .. } => "push to another name, or empty it: a push never mixes with other files",
            Self::Moved { .. } => "look at what was pushed there; nothing of this run is shown",
            Self::Busy { .. } => "wait until it has ended, and give the same command again",
            Self::Status { .. } | Self::File { .. } | Self::Exists { .. } | Self::Cancelled => return Vec::new(),
        };
        vec![line.to_owned()]
    }

    fn is_change(&self) -> bool {
        matches!(self, Self::NoFile { .. } | Self::OtherCommit { .. } | Self::Size { .. })
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::Exists { .. })
    }
}

impl From<HubError> for RemoteError {
    fn from(error: HubError) -> Self {
        Box::new(error)
    }
}

/// What a server says of its refusal, behind the words of our own.
fn of_server(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": its server says {}", shown(said)) }
}
