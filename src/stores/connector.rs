//! The way of the library to the network: the HTTP client that the hub is read with.
//!
//! The library would bring `reqwest`, a second TLS and a pool of threads. Its own threads wait here, one for each request.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use ureq::http::header::{CONTENT_LENGTH, IF_NONE_MATCH, RETRY_AFTER};
use ureq::http::{HeaderValue, Method, Request};
use ureq::{Agent, BodyReader, Timeout};

use crate::error::OtherRegion;

/// The longest that a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(15);

/// The longest that a store may take to begin an answer, and that it may pause within one.
const STALL: Duration = Duration::from_secs(60);

/// The longest that a request's body, or an answer's, may take as a whole.
const WHOLE: Duration = Duration::from_secs(300);

/// The longest pause that a store may ask for; where it asks for more, the library's own stands.
const LONGEST_PAUSE: u64 = 120;

/// Connections that are kept for the next request.
const IDLE: usize = 32;

/// Bytes of an answer that are handed on at a time.
const CHUNK: usize = 256 << 10;

/// Makes clients for the library.
#[derive(Clone, Debug)]
pub(crate) struct BlockingConnector {
    pub(crate) service: BlockingService,
}

/// Requests that block the thread that waits for them.
#[derive(Clone, Debug)]
pub(crate) struct BlockingService {
    agent: Agent,
    /// The region that requests are signed for, where the store is S3.
    region: Option<String>,
}

impl BlockingService {
    /// Makes a service; `region` is set for S3.
    pub(crate) fn new(region: Option<String>) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("qwen-fp8/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // A redirect of S3 means another region; the signature would not hold there.
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_send_body(Some(WHOLE))
            .timeout_recv_response(Some(STALL))
            .timeout_recv_body(Some(WHOLE))
            .timeout_per_read(Some(STALL))
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE)
            .build();
        Self { agent: config.new_agent(), region }
    }

    fn is_s3(&self) -> bool {
        self.region.is_some()
    }

    /// Makes one request.
    fn send(&self, mut request: Request<Bytes>) -> Result<HttpResponse, HttpError> {
        let completes = request.method() == Method::POST
            && request.uri().query().is_some_and(|query| query.split('&').any(|part| part.starts_with("uploadId=")));
        if self.is_s3() && completes {
            // The library completes an upload over whatever has the name. The header needs no place in the signature:
            // the library leaves it out of that too, where it copies objects by parts.
            request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let response = if request.body().is_empty() && !matches!(*request.method(), Method::PUT | Method::POST) {
            self.agent.run(request.map(|_| ()))
        } else {
            // With its length, which S3 asks for even where it is 0.
            let (mut parts, body) = request.into_parts();
            parts.headers.insert(CONTENT_LENGTH, body.len().into());
            self.agent.run(Request::from_parts(parts, &body[..]))
        };
        let (parts, body) = response.map_err(failed)?.into_parts();
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        if let (Some(own), Some(right)) = (&self.region, header("x-amz-bucket-region"))
            && own != right
            && !parts.status.is_success()
        {
            return Err(HttpError::new(HttpErrorKind::Unknown, OtherRegion { right: right.to_owned() }));
        }
        let asked = header(RETRY_AFTER.as_str()).and_then(|seconds| seconds.trim().parse().ok());
        if let Some(seconds) =
            asked.filter(|seconds| matches!(parts.status.as_u16(), 429 | 503) && *seconds <= LONGEST_PAUSE)
        {
            // The library does not read the header.
            thread::sleep(Duration::from_secs(seconds));
        }
        let left = body.content_length();
        let body = StreamedBody { reader: Mutex::new(body.into_reader()), left };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

#[async_trait]
impl HttpService for BlockingService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        // A body of one piece, as all of ours are, is not copied.
        let body = body.collect().await?.to_bytes();
        self.send(Request::from_parts(parts, body))
    }
}

impl HttpConnector for BlockingConnector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.service.clone()))
    }
}

/// The body of an answer, read as it is asked for.
struct StreamedBody {
    /// Never contended: the library wants what threads may share.
    reader: Mutex<BodyReader<'static>>,
    /// Bytes that are still to come, where the answer says how many it has.
    left: Option<u64>,
}

impl Body for StreamedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let mut chunk = vec![0; self.left.unwrap_or(u64::MAX).clamp(1, CHUNK as u64) as usize];
        let reader = self.reader.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let read = match reader.read(&mut chunk) {
            Ok(read) => read,
            Err(error) => return Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Interrupted, error)))),
        };
        if read == 0 {
            let is_whole = self.left.unwrap_or(0) == 0;
            let early = || HttpError::new(HttpErrorKind::Interrupted, io::Error::from(io::ErrorKind::UnexpectedEof));
            return Poll::Ready(if is_whole { None } else { Some(Err(early())) });
        }
        self.left = self.left.map(|left| left.saturating_sub(read as u64));
        chunk.truncate(read);
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }
}

/// What the library is to make of a request that came to nothing: whether it is worth another try.
fn failed(error: ureq::Error) -> HttpError {
    let kind = match &error {
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => HttpErrorKind::Connect,
        ureq::Error::Io(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}
