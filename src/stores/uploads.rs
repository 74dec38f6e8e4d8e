//! The uploads of a bucket that are under way, which the library has no request for.

use std::time::Duration;

use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpRequestBody, HttpService};
use object_store::path::Path;
use object_store::signer::Signer;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::{Method, Request};

use crate::bucket::{Bucket, S3Access};
use crate::error::StoreError;
use crate::wait::wait;

/// Characters of a query that stand as they are, as the signature wants it.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// An object whose signed address shows how the bucket is addressed.
const PROBE: &str = "x";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadList {
    #[serde(default)]
    upload: Vec<UploadUnderWay>,
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadUnderWay {
    key: String,
    upload_id: String,
}

/// Lists the uploads under the prefix, each with the object's name and its own id.
pub(crate) fn list(bucket: &Bucket, s3: &S3Access) -> Result<Vec<(String, String)>, StoreError> {
    let (mut found, mut markers) = (Vec::new(), String::new());
    loop {
        let page = page(bucket, s3, &markers)?;
        for UploadUnderWay { key, upload_id } in page.upload {
            if let Some(name) = bucket.location.name_of(&key) {
                found.push((name.to_owned(), upload_id));
            }
        }
        match (page.is_truncated, page.next_key_marker, page.next_upload_id_marker) {
            (true, Some(key), Some(upload)) => {
                let next = format!("&key-marker={}&upload-id-marker={}", encoded(&key), encoded(&upload));
                if next == markers {
                    return Err(unusable(bucket, "a list of uploads has no end"));
                }
                markers = next;
            }
            _ => return Ok(found),
        }
    }
}

fn page(bucket: &Bucket, s3: &S3Access, markers: &str) -> Result<UploadList, StoreError> {
    let failed = |error: object_store::Error| bucket.error(&error);
    wait(async {
        let probe = Path::from(PROBE);
        let signed = s3.store.signed_url(Method::GET, &probe, Duration::from_secs(60));
        let signed = signed.await.map_err(failed)?.to_string();
        let base = signed.split('?').next().and_then(|url| url.strip_suffix(PROBE));
        let base = base.ok_or_else(|| unusable(bucket, "its address cannot be told"))?;
        let prefix = match bucket.location.prefix.as_ref() {
            "" => String::new(),
            prefix => format!("&prefix={}", encoded(&format!("{prefix}/"))),
        };
        let url = format!("{base}?uploads={prefix}{markers}");
        let request = Request::get(url).body(HttpRequestBody::empty());
        let mut request = request.map_err(|_| unusable(bucket, "its address cannot be told"))?;
        let credential = s3.store.credentials().get_credential().await.map_err(failed)?;
        AwsAuthorizer::new(&credential, "s3", &s3.region).try_authorize(&mut request, None).map_err(failed)?;
        let of_connection = |error| failed(object_store::Error::Generic { store: "S3", source: Box::new(error) });
        let answer = s3.service.call(request).await.map_err(of_connection)?;
        let status = answer.status();
        let text = answer.into_body().bytes().await.map_err(of_connection)?;
        if !status.is_success() {
            let source = String::from_utf8_lossy(&text).into_owned().into();
            let path = bucket.location.prefix.to_string();
            return Err(failed(match status.as_u16() {
                401 | 403 => object_store::Error::PermissionDenied { path, source },
                _ => object_store::Error::Generic { store: "S3", source },
            }));
        }
        quick_xml::de::from_reader(&text[..]).map_err(|_| unusable(bucket, "a list of uploads cannot be read"))
    })
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

fn unusable(bucket: &Bucket, reason: &str) -> StoreError {
    StoreError::Refused { address: bucket.address.clone(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_uploads_are_read() {
        let page: UploadList = quick_xml::de::from_str(
            "<?xml version=\"1.0\"?><ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Bucket>b</Bucket><KeyMarker/><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>\
             <NextUploadIdMarker>u</NextUploadIdMarker><Upload><Key>p/a</Key><UploadId>1</UploadId><Owner><ID>x</ID></Owner>\
             </Upload><Upload><Key>p/b</Key><UploadId>2</UploadId></Upload></ListMultipartUploadsResult>",
        )
        .unwrap();
        let uploads: Vec<_> = page.upload.iter().map(|it| (it.key.as_str(), it.upload_id.as_str())).collect();
        assert_eq!(uploads, [("p/a", "1"), ("p/b", "2")]);
        assert!(page.is_truncated);
        let empty: UploadList = quick_xml::de::from_str("<ListMultipartUploadsResult/>").unwrap();
        assert!(empty.upload.is_empty() && !empty.is_truncated);
    }
}
