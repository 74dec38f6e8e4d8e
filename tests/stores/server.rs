//! The S3 server of the tests: moto, one for all of them, with requests of our own that go past every proxy.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Ends the server when this process ends, however: its standard input is then closed.
const KEEPER: &str = r#""$0" -m moto.server -H 127.0.0.1 -p "$1" >/dev/null 2>&1 & read -r _; kill $!"#;

/// An authorization that moto takes: it does not look at the signature. With a date of S3 in it, or moto takes the request
/// for one of another service.
pub(crate) const AUTHORIZATION: &str = "Authorization: AWS4-HMAC-SHA256 Credential=key/20261129/us-east-1/s3/aws4_request, \
    SignedHeaders=host, Signature=0";

pub(crate) struct S3Server {
    pub(crate) port: u16,
    buckets: AtomicUsize,
    _stdin: ChildStdin,
}

impl S3Server {
    /// The server; `None` where `QWEN_FP8_MOTO_PYTHON` names no Python for it.
    pub(crate) fn get() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<S3Server>> = OnceLock::new();
        SERVER.get_or_init(|| std::env::var_os("QWEN_FP8_MOTO_PYTHON").map(|python| Self::start(&python))).as_ref()
    }

    fn start(python: &std::ffi::OsStr) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER]).arg(python).arg(port.to_string()).stdin(Stdio::piped());
        let stdin = keeper.spawn().unwrap().stdin.take().unwrap();
        let server = Self { port, buckets: AtomicUsize::new(0), _stdin: stdin };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return server;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("moto does not listen on port {port} after a minute");
    }

    pub(crate) fn new_bucket(&self) -> String {
        let bucket = format!("bucket-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        assert_eq!(self.ask("PUT", &format!("/{bucket}"), b"").0, 200);
        bucket
    }

    pub(crate) fn put(&self, bucket: &str, key: &str, bytes: &[u8]) {
        assert_eq!(self.ask("PUT", &format!("/{bucket}/{key}"), bytes).0, 200);
    }

    pub(crate) fn remove(&self, bucket: &str, key: &str) {
        assert_eq!(self.ask("DELETE", &format!("/{bucket}/{key}"), b"").0, 204);
    }

    /// The objects whose keys begin with `prefix`, by the rest of their keys.
    pub(crate) fn objects(&self, bucket: &str, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let (status, list) = self.ask("GET", &format!("/{bucket}?list-type=2&prefix={prefix}"), b"");
        assert_eq!(status, 200);
        let list = String::from_utf8(list).unwrap();
        let keys = list.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap());
        keys.map(|key| {
            let (status, bytes) = self.ask("GET", &format!("/{bucket}/{key}"), b"");
            assert_eq!(status, 200, "{key}");
            (key[prefix.len()..].to_owned(), bytes)
        })
        .collect()
    }

    /// The number of uploads that are under way.
    pub(crate) fn uploads(&self, bucket: &str) -> usize {
        let (status, list) = self.ask("GET", &format!("/{bucket}?uploads"), b"");
        assert_eq!(status, 200);
        String::from_utf8(list).unwrap().matches("<UploadId>").count()
    }

    /// Begins an upload, of which nobody knows.
    pub(crate) fn begin_upload(&self, bucket: &str, key: &str) {
        assert_eq!(self.ask("POST", &format!("/{bucket}/{key}?uploads"), b"").0, 200);
    }

    fn ask(&self, method: &str, target: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let len = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{AUTHORIZATION}\r\nContent-Length: {len}\r\n\
             Connection: close\r\n\r\n",
            self.port
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[..end]).split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer[end + 4..].to_vec())
    }
}
