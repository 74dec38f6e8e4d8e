//! A bucket that was opened: how it is reached, and the requests that both its sides make.

use std::env;
use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::multipart::MultipartStore;
use object_store::{
    BackoffConfig, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
};

use crate::connector::{BlockingConnector, BlockingService};
use crate::error::StoreError;
use crate::kind::StoreKind;
use crate::location::StoreLocation;
use crate::profile::Profile;
use crate::wait::wait;

/// The region that requests are signed for where none is named.
const REGION: &str = "us-east-1";

/// Attempts after the first one, and the time that all of them may take.
const RETRIES: usize = 6;
const RETRIES_END: Duration = Duration::from_secs(180);

/// A store in any of its kinds.
pub(crate) trait StoreClient: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> StoreClient for T {}

/// A prefix in a bucket, with what is needed to reach it.
pub struct Bucket {
    pub(crate) location: StoreLocation,
    pub(crate) address: String,
    pub(crate) client: Arc<dyn StoreClient>,
    pub(crate) s3: Option<S3Access>,
}

/// What requests that the library does not know are made with.
pub(crate) struct S3Access {
    pub(crate) store: Arc<AmazonS3>,
    pub(crate) region: String,
    pub(crate) service: BlockingService,
}

impl Bucket {
    /// Opens a prefix, with credentials, region and endpoint of the environment variables, and of the profile of `~/.aws`
    /// where these leave them open. Nothing is asked of it yet.
    ///
    /// # Errors
    /// There are no credentials, or what the variables say is nothing usable.
    pub fn open(location: StoreLocation) -> Result<Self, StoreError> {
        let address = location.address();
        let unusable = |error: object_store::Error| error_of(&error, &location);
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRIES_END,
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(250),
                max_backoff: Duration::from_secs(8),
                base: 2.0,
            },
        };
        let connector = |region| BlockingConnector { service: BlockingService::new(region) };
        let (client, s3): (Arc<dyn StoreClient>, _) = match location.kind {
            StoreKind::S3 => {
                let profile = Profile::of_process();
                let builder = profile.complete(AmazonS3Builder::from_env());
                check_credentials(&builder, &profile)?;
                let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
                let region = region.unwrap_or_else(|| REGION.to_owned());
                let connector = connector(Some(region.clone()));
                let service = connector.service.clone();
                let builder = builder.with_region(&region).with_bucket_name(&location.bucket).with_allow_http(true);
                let store = builder.with_retry(retry).with_http_connector(connector).build().map_err(unusable)?;
                let store = Arc::new(store);
                (Arc::clone(&store) as Arc<dyn StoreClient>, Some(S3Access { store, region, service }))
            }
            StoreKind::Google => {
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(&location.bucket);
                let store = builder.with_retry(retry).with_http_connector(connector(None)).build();
                (Arc::new(store.map_err(unusable)?), None)
            }
            StoreKind::Azure => {
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(&location.bucket);
                if builder.get_config_value(&AzureConfigKey::AccountName).is_none() {
                    return Err(StoreError::NoAccount);
                }
                let builder = builder.with_allow_http(true).with_retry(retry);
                (Arc::new(builder.with_http_connector(connector(None)).build().map_err(unusable)?), None)
            }
        };
        Ok(Self { location, address, client, s3 })
    }

    /// Returns the error of this bucket for one of the library's.
    pub(crate) fn error(&self, error: &object_store::Error) -> StoreError {
        error_of(error, &self.location)
    }

    /// Lists the objects below the prefix, in order of name, each with its name.
    pub(crate) fn objects(&self) -> Result<Vec<(String, ObjectMeta)>, StoreError> {
        let prefix = Some(&self.location.prefix).filter(|prefix| !prefix.as_ref().is_empty());
        let listed: Vec<ObjectMeta> =
            wait(self.client.list(prefix).try_collect()).map_err(|error| self.error(&error))?;
        let mut objects = Vec::new();
        for mut object in listed {
            let Some(name) = self.location.name_of(object.location.as_ref()).map(str::to_owned) else { continue };
            // Azure lists tags without the quotation marks that it answers with, and that conditions have.
            if matches!(self.location.kind, StoreKind::Azure) {
                object.e_tag = object.e_tag.map(|tag| format!("\"{}\"", tag.trim_matches('"')));
            }
            // Some servers of S3's protocol, such as s3s-fs, list none, and tell them of each object.
            if object.e_tag.is_none() {
                object.e_tag = self.head(&name)?.and_then(|found| found.e_tag);
            }
            objects.push((name, object));
        }
        objects.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(objects)
    }

    /// Fills `buffer` from the bytes at `offset` of an object in the state of this tag, where one is given.
    pub(crate) fn fill(
        &self,
        name: &str,
        etag: Option<&str>,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<(), StoreError> {
        if buffer.is_empty() {
            return Ok(());
        }
        let key = self.location.key(name)?;
        let mut options = GetOptions::new();
        options.range = Some(GetRange::Bounded(offset..offset + buffer.len() as u64));
        options.if_match = etag.map(str::to_owned);
        let changed = || StoreError::Changed { address: self.address_of(name) };
        wait(async {
            let got = self.client.get_opts(&key, options).await.map_err(|error| match error {
                // Listed a moment ago.
                object_store::Error::NotFound { .. } | object_store::Error::Precondition { .. } => changed(),
                error => self.error(&error),
            })?;
            if etag.is_some_and(|etag| got.meta.e_tag.as_deref().is_some_and(|found| found != etag)) {
                // A store that does not know the condition.
                return Err(changed());
            }
            self.take(got, buffer).await
        })
    }

    async fn take(&self, got: GetResult, buffer: &mut [u8]) -> Result<(), StoreError> {
        let mut stream = got.into_stream();
        let mut filled = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| self.error(&error))?;
            let end = filled + chunk.len();
            let Some(place) = buffer.get_mut(filled..end) else { break };
            place.copy_from_slice(&chunk);
            filled = end;
        }
        if filled == buffer.len() {
            Ok(())
        } else {
            let reason = format!("an answer had {filled} bytes, not {}", buffer.len());
            Err(StoreError::Unreachable { address: self.address.clone(), reason })
        }
    }

    /// Returns what the store says of an object; `None` where there is none.
    pub(crate) fn head(&self, name: &str) -> Result<Option<ObjectMeta>, StoreError> {
        let key = self.location.key(name)?;
        match wait(self.client.head(&key)) {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// The address of the object of this name.
    pub(crate) fn address_of(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the client, which holds the credentials.
        f.debug_struct("Bucket").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Returns the error of a bucket for one of the library's.
fn error_of(error: &object_store::Error, location: &StoreLocation) -> StoreError {
    StoreError::of(error, location.kind, location.bucket_address(), location.address())
}

/// Looks whether there are credentials for S3, or a place that may have them.
//
// The library asks the machine's own metadata service where the variables tell none. Outside of Amazon's cloud there is no
// such service, and its address answers nobody: what is asked here once, the library would ask for each request.
fn check_credentials(builder: &AmazonS3Builder, profile: &Profile) -> Result<(), StoreError> {
    const METADATA: ([u8; 4], u16) = ([169, 254, 169, 254], 80);
    let is_told = [
        AmazonS3ConfigKey::AccessKeyId,
        AmazonS3ConfigKey::SkipSignature,
        AmazonS3ConfigKey::WebIdentityTokenFile,
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
        AmazonS3ConfigKey::MetadataEndpoint,
    ];
    let is_told = is_told.iter().any(|key| match (key, builder.get_config_value(key)) {
        (AmazonS3ConfigKey::SkipSignature, value) => value.as_deref() == Some("true"),
        // The library's own default counts for nothing.
        (AmazonS3ConfigKey::MetadataEndpoint, _) => env::var_os("AWS_METADATA_ENDPOINT").is_some(),
        (_, value) => value.is_some(),
    });
    let is_disabled = env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    let answers = || TcpStream::connect_timeout(&SocketAddr::from(METADATA), Duration::from_secs(1)).is_ok();
    if is_told || (!is_disabled && answers()) {
        return Ok(());
    }
    Err(StoreError::NoCredentials { lack: profile.lack() })
}
