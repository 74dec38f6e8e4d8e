//! The tag of an object that was uploaded by parts, which tells whether a completion whose answer was lost came about.

use md5::{Digest, Md5};

/// Returns the tag that S3 gives to an object of these parts: the MD5 of their MD5s and their number. `None` where the tags
/// of the parts are no MD5s, as with encryption by a key of one's own.
pub(crate) fn tag_of_parts(parts: &[String]) -> Option<String> {
    let mut sum = Md5::new();
    for part in parts {
        sum.update(md5_of(part)?);
    }
    let hex: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{hex}-{}", parts.len()))
}

/// Returns whether a tag, which may stand in quotation marks, is this one.
pub(crate) fn is_tag(found: &str, wanted: &str) -> bool {
    found.trim_matches('"') == wanted
}

fn md5_of(tag: &str) -> Option<[u8; 16]> {
    let hex = tag.trim_matches('"').as_bytes();
    let mut bytes = [0; 16];
    if hex.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_that_of_the_md5s_of_the_parts() {
        // Of the parts `a` and `b`, as Python's hashlib computes it: md5(md5(b"a").digest() + md5(b"b").digest()).
        let parts = ["\"0cc175b9c0f1b6a831c399e269772661\"".to_owned(), "92eb5ffee6ae2fec3ad71c777531578f".to_owned()];
        let tag = tag_of_parts(&parts).unwrap();
        assert_eq!(tag, "96e024ba2074fe77e8e965ba43a704be-2");
        assert!(is_tag(&format!("\"{tag}\""), &tag));
        assert_eq!(tag_of_parts(&["no md5".to_owned()]), None);
    }
}
