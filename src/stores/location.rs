//! Addresses of object stores: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.

use object_store::path::Path;

use crate::error::StoreError;
use crate::kind::StoreKind;

/// A prefix in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreLocation {
    pub(crate) kind: StoreKind,
    pub(crate) bucket: String,
    /// Without `/` at its ends; empty for the whole bucket.
    pub(crate) prefix: Path,
}

impl StoreLocation {
    /// Reads an address.
    ///
    /// # Errors
    /// [`StoreError::Address`] for what is no address of a prefix in a store.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let wrong = |why: &str| StoreError::Address { text: text.to_owned(), why: why.to_owned() };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no `://`"))?;
        let kind = match scheme {
            "s3" => StoreKind::S3,
            "gs" => StoreKind::Google,
            "az" => StoreKind::Azure,
            _ => return Err(wrong("stores are `s3://`, `gs://` and `az://`")),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if bucket.is_empty() || !bucket.chars().all(is_name) {
            return Err(wrong("a bucket's name has letters, digits, `-`, `.` and `_`"));
        }
        if prefix.contains(['?', '#']) {
            return Err(wrong("`?` and `#` have no meaning in it"));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        // The library would leave out a `/` at an end.
        let parsed = Path::parse(prefix).ok().filter(|parsed| parsed.as_ref() == prefix);
        let prefix = parsed.ok_or_else(|| wrong("its prefix has a part that is empty, `.` or `..`"))?;
        Ok(Self { kind, bucket: bucket.to_owned(), prefix })
    }

    /// The address, without `/` at its end.
    pub fn address(&self) -> String {
        let slash = if self.prefix.as_ref().is_empty() { "" } else { "/" };
        format!("{}{slash}{}", self.bucket_address(), self.prefix)
    }

    pub(crate) fn bucket_address(&self) -> String {
        let scheme = match self.kind {
            StoreKind::S3 => "s3",
            StoreKind::Google => "gs",
            StoreKind::Azure => "az",
        };
        format!("{scheme}://{}", self.bucket)
    }

    /// The last part of the prefix, which names the model as a directory would.
    pub(crate) fn name(&self) -> String {
        self.prefix.filename().unwrap_or(&self.bucket).to_owned()
    }

    /// The key of the object of this name below the prefix.
    pub(crate) fn key(&self, name: &str) -> Result<Path, StoreError> {
        let slash = if self.prefix.as_ref().is_empty() { "" } else { "/" };
        Path::parse(format!("{}{slash}{name}", self.prefix))
            .map_err(|_| StoreError::Name { address: self.address(), name: name.to_owned() })
    }

    /// The name below the prefix of the object with this key; `None` where it lies elsewhere.
    pub(crate) fn name_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        match self.prefix.as_ref() {
            "" => Some(key),
            prefix => key.strip_prefix(prefix)?.strip_prefix('/'),
        }
        .filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, address, name) in [
            ("s3://models/org/tiny", "s3://models/org/tiny", "tiny"),
            ("s3://models/org/tiny/", "s3://models/org/tiny", "tiny"),
            ("gs://models", "gs://models", "models"),
            ("az://models/", "az://models", "models"),
        ] {
            let location = StoreLocation::parse(text).unwrap();
            assert_eq!((location.address().as_str(), location.name().as_str()), (address, name), "{text}");
        }
        for wrong in [
            "s3:/a/b",
            "s3://",
            "s3:///a",
            "ftp://a/b",
            "s3://a//b",
            "s3://a/../b",
            "s3://a/./b",
            "s3://a b/c",
            "s3://a/b?c",
            "s3://a/b//",
        ] {
            assert!(matches!(StoreLocation::parse(wrong), Err(StoreError::Address { .. })), "{wrong}");
        }
    }

    #[test]
    fn names_are_those_below_the_prefix() {
        let location = StoreLocation::parse("s3://models/org/tiny").unwrap();
        assert_eq!(location.key("a/b.json").unwrap().as_ref(), "org/tiny/a/b.json");
        assert_eq!(location.name_of("org/tiny/a/b.json"), Some("a/b.json"));
        for elsewhere in ["org/tiny", "org/tiny/", "org/tiny-2/a", "a"] {
            assert_eq!(location.name_of(elsewhere), None, "{elsewhere}");
        }
        assert!(location.key("../a").is_err());
        assert_eq!(StoreLocation::parse("s3://models").unwrap().name_of("a"), Some("a"));
    }
}
