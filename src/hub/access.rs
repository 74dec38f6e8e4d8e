//! How the hub is reached: its address, the token, and whether it may be asked at all.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use qwen_fp8_checkpoint::hub::HubEnvironment;

use crate::address::HostOrigin;
use crate::error::HubError;

/// The hub that is asked where no other is named.
const HUB: &str = "https://huggingface.co";

/// The most bytes of a token's file that are read.
const MAX_TOKEN: u64 = 4096;

/// How the hub is reached.
#[derive(Clone)]
pub struct HubAccess {
    /// Address of the hub, without a `/` at its end.
    pub(crate) endpoint: String,
    pub(crate) origin: HostOrigin,
    token: Option<String>,
}

impl HubAccess {
    /// Takes address and token from the variables of this process, as `huggingface_hub` does; `None` where these say that
    /// no connection is wanted.
    ///
    /// # Errors
    /// The address is none, or the token holds characters that no token has.
    pub fn of_process(environment: &HubEnvironment) -> Result<Option<Self>, HubError> {
        let text = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
        if is_offline(|name| env::var(name).ok()) {
            return Ok(None);
        }
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
        let named = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        let token = match named {
            Some(token) => Some(token),
            None if is_set(text("HF_HUB_DISABLE_IMPLICIT_TOKEN").as_deref()) => None,
            None => {
                let file = env::var_os("HF_TOKEN_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
                file.or_else(|| Some(environment.hf_home()?.join("token"))).and_then(|file| token_in(&file))
            }
        };
        Self::new(&endpoint, token.as_deref()).map(Some)
    }

    /// Takes this address and this token.
    ///
    /// # Errors
    /// As [`HubAccess::of_process`].
    pub fn new(endpoint: &str, token: Option<&str>) -> Result<Self, HubError> {
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        let origin = HostOrigin::of(&endpoint).ok_or_else(|| HubError::Endpoint { address: endpoint.clone() })?;
        let token = token.map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned);
        if token.as_deref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(HubError::Token);
        }
        Ok(Self { endpoint, origin, token })
    }

    /// The token, for the hub's own host alone.
    pub(crate) fn token_for(&self, origin: &HostOrigin) -> Option<&str> {
        self.token.as_deref().filter(|_| *origin == self.origin)
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }
}

/// Whether one of the variables says that no connection is wanted.
fn is_offline(variable: impl Fn(&str) -> Option<String>) -> bool {
    ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().any(|name| is_set(variable(name).as_deref()))
}

/// Whether the variables let blobs be shared by the models of a cache.
pub(crate) fn may_share_blobs() -> bool {
    !["HF_HUB_DISABLE_SHARED_BLOBS", "HF_HUB_DISABLE_XET"].iter().any(|name| is_set(env::var(name).ok().as_deref()))
}

/// What `huggingface_hub` takes for a yes.
fn is_set(value: Option<&str>) -> bool {
    value.is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
}

/// The token in a file; `None` where there is none that can be read.
fn token_in(path: &Path) -> Option<String> {
    let size = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len();
    if size > MAX_TOKEN { None } else { fs::read_to_string(path).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_the_hub_alone() {
        let access = HubAccess::new("https://hub.example/ ", Some("hf_abc\n")).unwrap();
        assert_eq!(access.endpoint, "https://hub.example");
        let token = |address: &str| access.token_for(&HostOrigin::of(address).unwrap());
        assert_eq!(token("https://hub.example/a"), Some("hf_abc"));
        assert_eq!(token("https://HUB.example:443/a"), Some("hf_abc"));
        for other in ["https://cdn.hub.example", "https://hub.example:8443", "http://hub.example"] {
            assert_eq!(token(other), None, "{other}");
        }
        assert!(matches!(HubAccess::new("huggingface.co", None), Err(HubError::Endpoint { .. })));
        assert!(matches!(HubAccess::new("https://a", Some("hf\u{1}")), Err(HubError::Token)));
    }

    #[test]
    fn offline_is_what_huggingface_hub_takes_for_it() {
        let offline =
            |name: &'static str, value: &'static str| is_offline(|asked| (asked == name).then(|| value.to_owned()));
        assert!(offline("HF_HUB_OFFLINE", "1") && offline("HF_HUB_OFFLINE", "yes"));
        assert!(offline("TRANSFORMERS_OFFLINE", "True"));
        assert!(!offline("HF_HUB_OFFLINE", "0") && !offline("HF_HUB_OFFLINE", ""));
    }
}
