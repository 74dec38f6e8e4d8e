//! What can go wrong between this machine and the hub, with what to do about each.

use qwen_fp8_checkpoint::remote::RemoteFailure;
use qwen_fp8_checkpoint::text::{exact, shown};

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
}

impl HubError {
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
            Self::LfsPointer { .. } => "the repository or its mirror lacks the file: ask its owner for it",
            Self::WrongRange { .. } => {
                "its server or a proxy on the way does not serve parts of files: `hf download` gets them whole"
            }
            Self::FileName { .. } | Self::Unusable { .. } | Self::Redirect { .. } | Self::Redirects { .. } => {
                "check whether `HF_ENDPOINT` and the proxy are what they should be"
            }
            Self::Status { .. } => return Vec::new(),
        };
        vec![line.to_owned()]
    }

    fn is_change(&self) -> bool {
        matches!(self, Self::NoFile { .. } | Self::OtherCommit { .. } | Self::Size { .. })
    }
}
