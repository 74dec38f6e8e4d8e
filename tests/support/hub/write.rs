//! What the hub takes: new models, large files by the protocol of git-lfs, and commits, each of which comes about as a whole.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::http::{Answer, Request};
use super::{LARGE, Shared, ShownModel, git_blob, refusal, sha256};

/// Large files, by their SHA-256.
#[derive(Debug, Default)]
pub(super) struct Storage {
    /// Those that are whole.
    pub(super) contents: BTreeMap<String, Vec<u8>>,
    /// Those that came and were not verified or put together yet.
    arrived: BTreeMap<String, Vec<u8>>,
    /// Bytes of a part; `None` where files come in one piece.
    pub(super) part: Option<usize>,
    /// Set where parts are numbered from 0, as no storage does.
    pub(super) counts_from_zero: bool,
}

impl Shared {
    /// Answers a request of the hub that changes something.
    pub(super) fn write(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap();
        let json = || serde_json::from_slice::<Value>(&request.body).unwrap();
        if path == "/api/validate-yaml" {
            return answer(&json!({ "errors": [], "warnings": [] }));
        }
        if path == "/api/repos/create" {
            return self.create(&json());
        }
        if let Some(oid) = path.strip_prefix("/lfs/verify/") {
            return self.verify(oid);
        }
        if let Some(oid) = path.strip_prefix("/lfs/complete/") {
            return self.complete(oid, &json());
        }
        if let Some(id) = path.strip_suffix(".git/info/lfs/objects/batch") {
            return match self.models.lock().unwrap().contains_key(&id[1..]) {
                true => self.batch(&json()),
                false => refusal(404, "RepoNotFound"),
            };
        }
        let Some((id, what)) =
            path.strip_prefix("/api/models/").and_then(|path| path.strip_suffix("/main")?.rsplit_once('/'))
        else {
            return refusal(404, "RepoNotFound");
        };
        match what {
            "preupload" if self.models.lock().unwrap().contains_key(id) => preupload(&json()),
            "commit" => self.commit(id, &String::from_utf8(request.body.clone()).unwrap()),
            _ => refusal(404, "RepoNotFound"),
        }
    }

    fn create(&self, asked: &Value) -> Answer {
        let id = format!("{}/{}", asked["organization"].as_str().unwrap(), asked["name"].as_str().unwrap());
        let mut models = self.models.lock().unwrap();
        if models.contains_key(&id) {
            return refusal(409, "Conflict");
        }
        let files = BTreeMap::from([(".gitattributes".to_owned(), b"*.safetensors filter=lfs\n".to_vec())]);
        let is_private = asked["visibility"] == "private";
        models.insert(id.clone(), ShownModel { commit: "a".repeat(40), files, is_private, commits: Vec::new() });
        answer(&json!({ "url": format!("{}/{id}", self.own), "name": id, "id": "1" }))
    }

    fn batch(&self, asked: &Value) -> Answer {
        let (storage, place) = (self.storage.lock().unwrap(), self.cdn.lock().unwrap().clone());
        let hub = self.own.clone();
        let objects = asked["objects"].as_array().unwrap().iter().map(|object| {
            let (oid, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap());
            let mut told = json!({ "oid": oid, "size": size });
            if storage.contents.contains_key(oid) {
                return told;
            }
            let address = |part: usize| format!("{place}/lfs/{oid}/{part}?signature=secret");
            let upload = match storage.part {
                None => json!({ "href": address(0), "header": {} }),
                Some(part) => {
                    let mut header = json!({ "chunk_size": part.to_string() });
                    for number in 1..=(size as usize).div_ceil(part) {
                        let told = number - usize::from(storage.counts_from_zero);
                        header[format!("{told:05}")] = json!(address(number));
                    }
                    json!({ "href": format!("{hub}/lfs/complete/{oid}"), "header": header })
                }
            };
            told["actions"] = json!({ "upload": upload, "verify": { "href": format!("{hub}/lfs/verify/{oid}") } });
            told
        });
        answer(&json!({ "transfer": "basic", "objects": objects.collect::<Vec<_>>() }))
    }

    /// Takes a file or a part of one, as the second host.
    pub(super) fn store(&self, request: &Request) -> Answer {
        let path = request.path.strip_prefix("/lfs/").and_then(|path| path.strip_suffix("?signature=secret"));
        let Some(key) = path.filter(|_| request.method == "PUT") else { return Answer::new(403) };
        self.storage.lock().unwrap().arrived.insert(key.to_owned(), request.body.clone());
        Answer::new(200).with("ETag", format!("\"{}\"", git_blob(&request.body)))
    }

    fn complete(&self, oid: &str, asked: &Value) -> Answer {
        let storage = &mut *self.storage.lock().unwrap();
        let mut whole = Vec::new();
        for part in asked["parts"].as_array().unwrap() {
            let Some(bytes) = storage.arrived.remove(&format!("{oid}/{}", part["partNumber"])) else {
                return refusal(400, "PartMissing");
            };
            assert_eq!(part["etag"], format!("\"{}\"", git_blob(&bytes)));
            whole.extend(bytes);
        }
        storage.arrived.insert(format!("{oid}/0"), whole);
        answer(&json!({ "success": true }))
    }

    fn verify(&self, oid: &str) -> Answer {
        let storage = &mut *self.storage.lock().unwrap();
        match storage.arrived.remove(&format!("{oid}/0")) {
            Some(bytes) if sha256(&bytes) == oid => {
                storage.contents.insert(oid.to_owned(), bytes);
                answer(&json!({}))
            }
            _ => refusal(404, "NotUploaded"),
        }
    }

    fn commit(&self, id: &str, lines: &str) -> Answer {
        let mut models = self.models.lock().unwrap();
        let Some(model) = models.get_mut(id) else { return refusal(404, "RepoNotFound") };
        let storage = self.storage.lock().unwrap();
        let mut next = model.clone();
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let value = &line["value"];
            let path = value["path"].as_str().unwrap_or_default().to_owned();
            match line["key"].as_str().unwrap() {
                "header" if value.get("parentCommit").is_some_and(|parent| *parent != model.commit) => {
                    return refusal(412, "PreconditionFailed");
                }
                "header" => next.commits.push(value["summary"].as_str().unwrap().to_owned()),
                "file" => {
                    let bytes = STANDARD.decode(value["content"].as_str().unwrap()).unwrap();
                    if mode(&path, bytes.len()) != "regular" {
                        return refusal(400, "TooLarge");
                    }
                    next.files.insert(path, bytes);
                }
                "lfsFile" => {
                    let Some(bytes) = storage.contents.get(value["oid"].as_str().unwrap()) else {
                        return refusal(400, "NotUploaded");
                    };
                    next.files.insert(path, bytes.clone());
                }
                other => panic!("{other}"),
            }
        }
        next.commit = sha256(lines.as_bytes())[..40].to_owned();
        let url = format!("{}/{id}/commit/{}", self.own, next.commit);
        let answer = answer(&json!({ "success": true, "commitOid": next.commit, "commitUrl": url, "hookOutput": "" }));
        *model = next;
        answer
    }
}

fn preupload(asked: &Value) -> Answer {
    let files = asked["files"].as_array().unwrap().iter().map(|file| {
        let (path, size) = (file["path"].as_str().unwrap(), file["size"].as_u64().unwrap() as usize);
        assert!(!file["sample"].as_str().unwrap().is_empty() || size == 0, "{path}");
        json!({ "path": path, "uploadMode": mode(path, size), "shouldIgnore": false })
    });
    answer(&json!({ "files": files.collect::<Vec<_>>() }))
}

/// How the hub wants to have a file.
fn mode(path: &str, size: usize) -> &'static str {
    if path.ends_with(".safetensors") || size >= LARGE { "lfs" } else { "regular" }
}

fn answer(json: &Value) -> Answer {
    Answer::new(200).with("Content-Type", "application/json").of(json.to_string().into_bytes())
}
