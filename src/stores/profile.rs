//! Profiles of `~/.aws`, as Amazon's own tools write them: credentials, region and endpoint under a name.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

/// The profile that is read where none is named.
const DEFAULT: &str = "default";

/// The most bytes of a file of profiles that are read.
const MAX_FILE: u64 = 1 << 20;

/// Keys by which a profile has its credentials from elsewhere.
const FROM_ELSEWHERE: [&str; 6] =
    ["sso_session", "sso_start_url", "role_arn", "credential_process", "web_identity_token_file", "login_session"];

/// What a profile says.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    /// Set where `AWS_PROFILE` names it.
    name: Option<String>,
    /// What both files say of it; `None` where neither has it.
    settings: Option<BTreeMap<String, String>>,
}

impl Profile {
    /// Reads the profile that the variables of this process name.
    pub(crate) fn of_process() -> Self {
        let variable = |name| env::var(name).ok().filter(|value: &String| !value.is_empty());
        let file = |name, below_home: &str| {
            let path = variable(name).map(PathBuf::from);
            let path = path.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(below_home)))?;
            let is_small = fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= MAX_FILE);
            if is_small { fs::read_to_string(path).ok() } else { None }
        };
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials").unwrap_or_default();
        let config = file("AWS_CONFIG_FILE", ".aws/config").unwrap_or_default();
        Self::of(variable("AWS_PROFILE"), &credentials, &config)
    }

    fn of(name: Option<String>, credentials: &str, config: &str) -> Self {
        let wanted = name.as_deref().unwrap_or(DEFAULT);
        let of_config = section(config, |title| {
            title == wanted && wanted == DEFAULT || title.strip_prefix("profile ").map(str::trim) == Some(wanted)
        });
        let settings = match (of_config, section(credentials, |title| title == wanted)) {
            (None, None) => None,
            // The file of credentials is the one that counts.
            (of_config, of_credentials) => {
                Some(of_config.into_iter().flatten().chain(of_credentials.into_iter().flatten()).collect())
            }
        };
        Self { name, settings }
    }

    /// Adds what the variables leave open.
    pub(crate) fn complete(&self, mut builder: AmazonS3Builder) -> AmazonS3Builder {
        let is_open = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).is_none();
        if is_open(&builder, AmazonS3ConfigKey::AccessKeyId)
            && is_open(&builder, AmazonS3ConfigKey::WebIdentityTokenFile)
            && let Some((id, secret)) = self.get("aws_access_key_id").zip(self.get("aws_secret_access_key"))
        {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            if let Some(token) = self.get("aws_session_token") {
                builder = builder.with_token(token);
            }
        }
        if let Some(region) = self.get("region").filter(|_| is_open(&builder, AmazonS3ConfigKey::Region)) {
            builder = builder.with_region(region);
        }
        if let Some(url) = self.get("endpoint_url").filter(|_| is_open(&builder, AmazonS3ConfigKey::Endpoint)) {
            builder = builder.with_endpoint(url);
        }
        builder
    }

    /// Returns why the profile gives no credentials, for a message; `None` where nobody has named one.
    pub(crate) fn lack(&self) -> Option<String> {
        let elsewhere = FROM_ELSEWHERE.into_iter().find(|key| self.get(key).is_some());
        let name = match (&self.name, elsewhere) {
            (Some(name), _) => name,
            (None, Some(_)) => DEFAULT,
            (None, None) => return None,
        };
        let name = qwen_fp8_checkpoint::text::shown(name);
        Some(match (elsewhere, &self.settings) {
            (Some(key), _) => format!("the profile {name} has them by `{key}`, which is not read"),
            (None, Some(_)) => format!("the profile {name} has none"),
            (None, None) => format!("there is no profile {name} in `~/.aws`"),
        })
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.settings.as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// What a file says in the sections whose title `is_wanted`; `None` where it has none.
fn section(text: &str, is_wanted: impl Fn(&str) -> bool) -> Option<BTreeMap<String, String>> {
    let (mut found, mut is_in) = (None, false);
    for line in text.lines() {
        // A line that is indented is part of the setting above it, none of which are read.
        if line.starts_with(['#', ';', ' ', '\t']) {
            continue;
        }
        if let Some(title) = line.trim_end().strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_in = is_wanted(title.trim());
            if is_in {
                found.get_or_insert_with(BTreeMap::new);
            }
        } else if let (true, Some((key, value)), Some(settings)) = (is_in, line.split_once('='), &mut found) {
            settings.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=B\n\n[work]\n\
        aws_access_key_id=C\naws_secret_access_key=D=\naws_session_token = E\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n[profile work]\nregion=eu-north-1\n\
        endpoint_url = http://127.0.0.1:9000\naws_access_key_id=X\n[profile sso]\nsso_session = corporate\n[profile bare]\n";

    fn profile(name: Option<&str>) -> Profile {
        Profile::of(name.map(str::to_owned), CREDENTIALS, CONFIG)
    }

    #[test]
    fn a_profile_completes_what_the_variables_leave_open() {
        let value = |builder: &AmazonS3Builder, key| builder.get_config_value(&key);
        let of_default = profile(None).complete(AmazonS3Builder::new());
        assert_eq!(value(&of_default, AmazonS3ConfigKey::AccessKeyId).as_deref(), Some("A"));
        assert_eq!(value(&of_default, AmazonS3ConfigKey::Region).as_deref(), Some("eu-west-1"));
        let work = profile(Some("work")).complete(AmazonS3Builder::new());
        for (key, expected) in [
            (AmazonS3ConfigKey::AccessKeyId, "C"),
            (AmazonS3ConfigKey::SecretAccessKey, "D="),
            (AmazonS3ConfigKey::Token, "E"),
            (AmazonS3ConfigKey::Region, "eu-north-1"),
            (AmazonS3ConfigKey::Endpoint, "http://127.0.0.1:9000"),
        ] {
            assert_eq!(value(&work, key).as_deref(), Some(expected), "{key:?}");
        }
        let told = AmazonS3Builder::new().with_access_key_id("Z").with_region("us-west-2");
        let told = profile(Some("work")).complete(told);
        assert_eq!(value(&told, AmazonS3ConfigKey::AccessKeyId).as_deref(), Some("Z"));
        assert_eq!(value(&told, AmazonS3ConfigKey::Token), None);
        assert_eq!(value(&told, AmazonS3ConfigKey::Region).as_deref(), Some("us-west-2"));
    }

    #[test]
    fn what_a_profile_lacks_is_said() {
        let lack = |name| profile(Some(name)).lack();
        assert_eq!(lack("sso").as_deref(), Some("the profile `sso` has them by `sso_session`, which is not read"));
        assert_eq!(lack("bare").as_deref(), Some("the profile `bare` has none"));
        assert_eq!(lack("none").as_deref(), Some("there is no profile `none` in `~/.aws`"));
        assert_eq!(Profile::of(None, "", "").lack(), None);
    }
}
