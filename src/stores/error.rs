//! What can go wrong between this machine and a store, with what to do about each.

use std::error::Error;

use object_store::client::{HttpError, HttpErrorKind};
use qwen_fp8_checkpoint::remote::RemoteFailure;
use qwen_fp8_checkpoint::text::shown;

use crate::kind::StoreKind;

/// The most characters of a message of the library that are shown.
const LONGEST: usize = 200;

/// A reason for which a store did not give or take what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{} is no address in an object store: {why}", shown(text))]
    Address { text: String, why: String },
    #[error("no credentials for S3 are set{}", lack.as_ref().map_or_else(String::new, |lack| format!(", and {lack}")))]
    NoCredentials { lack: Option<String> },
    #[error("no account of Azure is named")]
    NoAccount,
    #[error("{} is no bucket, or none that these credentials may see", shown(bucket))]
    NoBucket { bucket: String },
    #[error("nothing lies at {}", shown(address))]
    Empty { address: String },
    #[error("{} may not be used with these credentials{}", shown(address), in_brackets(code.as_deref()))]
    Denied { kind: StoreKind, address: String, code: Option<String> },
    #[error("{} lies in the region {}", shown(bucket), shown(right))]
    Region { bucket: String, right: String },
    #[error("{} is in another region than the one that is asked", shown(bucket))]
    UnknownRegion { bucket: String },
    #[error("{} cannot be reached: {reason}", shown(address))]
    Unreachable { address: String, reason: String },
    #[error("{} is not there any more as it was when it was first looked at", shown(address))]
    Changed { address: String },
    #[error("somebody else has written {}", shown(address))]
    Conflict { address: String },
    #[error("{} has an object by the name {}, which no file can have", shown(address), shown(name))]
    Name { address: String, name: String },
    #[error("{} was refused: {reason}", shown(address))]
    Refused { address: String, reason: String },
}

/// A bucket that lies in another region than the one that requests are signed for.
#[derive(Debug, thiserror::Error)]
#[error("it lies in the region {right}")]
pub(crate) struct OtherRegion {
    pub(crate) right: String,
}

impl StoreError {
    /// Turns an error of the library into one of this bucket, and of the prefix at `address`.
    pub(crate) fn of(error: &object_store::Error, kind: StoreKind, bucket: String, address: String) -> Self {
        let code = code_of(error);
        let causes = || causes_of(error);
        if let Some(OtherRegion { right }) = causes().find_map(|cause| cause.downcast_ref()) {
            return Self::Region { bucket, right: right.clone() };
        }
        match (error, code.as_deref()) {
            (_, Some("NoSuchBucket" | "ContainerNotFound")) => Self::NoBucket { bucket },
            (_, Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException")) => {
                Self::UnknownRegion { bucket }
            }
            (object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }, _) => {
                Self::Denied { kind, address, code }
            }
            // Of lists and parts the library keeps the status in the message too.
            _ if ["status code: 401", "status code: 403"].iter().any(|status| error.to_string().contains(status)) => {
                Self::Denied { kind, address, code }
            }
            // An upload that is gone, on Azure the blocks of it: none but another run does away with it, or an attempt to complete
            // it whose answer was lost.
            (_, Some("NoSuchUpload" | "InvalidBlockList" | "PreconditionFailed" | "ConditionalRequestConflict")) => {
                Self::Conflict { address }
            }
            (object_store::Error::AlreadyExists { path, .. } | object_store::Error::Precondition { path, .. }, _) => {
                Self::Conflict { address: format!("{bucket}/{path}") }
            }
            _ => {
                let connection = causes().find_map(|cause| cause.downcast_ref::<HttpError>());
                match connection.filter(|error| error.kind() != HttpErrorKind::Decode) {
                    Some(error) => Self::Unreachable { address, reason: reason(error) },
                    None => Self::Refused { address, reason: code.unwrap_or_else(|| short(&error.to_string())) },
                }
            }
        }
    }

    /// Returns whether another address or another right would help, and not another try.
    pub fn is_of_input(&self) -> bool {
        matches!(
            self,
            Self::Address { .. }
                | Self::NoCredentials { .. }
                | Self::NoAccount
                | Self::NoBucket { .. }
                | Self::Empty { .. }
                | Self::Denied { .. }
                | Self::Region { .. }
                | Self::UnknownRegion { .. }
                | Self::Name { .. }
        )
    }
}

impl RemoteFailure for StoreError {
    fn help(&self) -> Vec<String> {
        let line = match self {
            Self::Address { .. } => {
                "an address is like `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`"
            }
            Self::NoCredentials { .. } => {
                return vec![
                    "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `AWS_SKIP_SIGNATURE=true` for a public bucket"
                        .to_owned(),
                    "`eval \"$(aws configure export-credentials --format env)\"` sets those of a profile".to_owned(),
                ];
            }
            Self::NoAccount => {
                "set `AZURE_STORAGE_ACCOUNT_NAME`, and `AZURE_STORAGE_ACCOUNT_KEY` or what else opens it"
            }
            Self::NoBucket { .. } => {
                "check its spelling, and `AWS_ENDPOINT_URL` where it is not on the provider's own servers"
            }
            Self::Empty { .. } => "check the spelling of the prefix: it is the folder that holds `config.json`",
            Self::Denied { kind: StoreKind::S3, .. } => {
                "reading asks for `s3:ListBucket` and `s3:GetObject`, writing for `s3:PutObject`, `s3:DeleteObject` and \
                 `s3:AbortMultipartUpload` too"
            }
            Self::Denied { .. } => "check which rights they have on the bucket",
            Self::Region { right, .. } => return vec![format!("set `AWS_REGION={right}`")],
            Self::UnknownRegion { .. } => "set `AWS_REGION` to the bucket's own",
            Self::Unreachable { address, .. } if !address.starts_with("s3:") => {
                "`HTTPS_PROXY` names a proxy; what is finished is kept"
            }
            Self::Unreachable { .. } => {
                "`AWS_ENDPOINT_URL` names another server, and `HTTPS_PROXY` a proxy; what is finished is kept"
            }
            Self::Changed { .. } => "wait until nothing writes there, and give the same command again",
            Self::Conflict { .. } => {
                "two runs cannot write to one prefix: let one of them end, and give the other another `--output`"
            }
            Self::Name { .. } | Self::Refused { .. } => return Vec::new(),
        };
        vec![line.to_owned()]
    }

    fn is_change(&self) -> bool {
        matches!(self, Self::Changed { .. })
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

fn in_brackets(code: Option<&str>) -> String {
    code.map_or_else(String::new, |code| format!(" ({code})"))
}

/// An error, and what it comes from.
fn causes_of<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The code of a refusal, which the library keeps in its message alone.
fn code_of(error: &object_store::Error) -> Option<String> {
    let text = error.to_string();
    let code = text.split_once("<Code>")?.1.split_once("</Code>")?.0;
    code.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| code.to_owned())
}

/// The words for an error of a connection.
fn reason(error: &HttpError) -> String {
    let cause = error.source().and_then(|source| source.downcast_ref::<ureq::Error>());
    match cause {
        Some(ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve)) => {
            "no connection came about in time".to_owned()
        }
        Some(ureq::Error::Timeout(_)) => "no answer came in time".to_owned(),
        Some(ureq::Error::HostNotFound) => "no host of that name was found".to_owned(),
        Some(ureq::Error::Io(error)) => error.to_string(),
        _ => short(&error.source().map_or_else(|| error.to_string(), ToString::to_string)),
    }
}

/// A message on one line, and not the whole of a page that a proxy has sent.
fn short(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.char_indices().nth(LONGEST).map_or(line.len(), |(at, _)| at);
    if end < line.len() { format!("{}…", &line[..end]) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: object_store::Error) -> StoreError {
        StoreError::of(&error, StoreKind::S3, "s3://models".to_owned(), "s3://models/tiny".to_owned())
    }

    fn denied(body: &str) -> object_store::Error {
        object_store::Error::PermissionDenied { path: "tiny".to_owned(), source: body.into() }
    }

    #[test]
    fn refusals_are_told_apart_by_their_code() {
        let code = |code: &str| of(denied(&format!("403: <Error><Code>{code}</Code></Error>")));
        assert!(matches!(code("AccessDenied"), StoreError::Denied { code: Some(code), .. } if code == "AccessDenied"));
        assert!(matches!(code("NoSuchBucket"), StoreError::NoBucket { bucket } if bucket == "s3://models"));
        assert!(matches!(code("PermanentRedirect"), StoreError::UnknownRegion { .. }));
        assert!(matches!(of(denied("<Code>a\nb</Code>")), StoreError::Denied { code: None, .. }));
    }

    #[test]
    fn a_region_is_found_below_what_the_library_makes_of_it() {
        let region = HttpError::new(HttpErrorKind::Unknown, OtherRegion { right: "eu-west-3".to_owned() });
        let error = object_store::Error::Generic { store: "S3", source: Box::new(region) };
        assert!(matches!(of(error), StoreError::Region { right, .. } if right == "eu-west-3"));
    }

    #[test]
    fn long_pages_become_short_lines() {
        let page = format!("<html>\n{}", "x ".repeat(500));
        let error = of(object_store::Error::Generic { store: "S3", source: page.into() });
        let message = error.to_string();
        assert!(!message.contains('\n') && message.chars().count() < 300, "{message}");
    }
}
