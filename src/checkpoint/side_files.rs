//! The files beside the weights: which belong to the model and are copied, which are left out, and why.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::INDEX_FILE;
use crate::source::{self, SourceError, SourceFile, Stamp};
use crate::text::shown;

/// A file that is copied byte for byte.
#[derive(Clone, Debug)]
pub struct SideFile {
    pub name: String,
    pub path: PathBuf,
    /// Permission bits of the file; a copy never gets wider ones.
    pub mode: u32,
    /// The state in which the file was planned.
    pub stamp: Stamp,
    /// Set for Python code that a server runs when told to trust it.
    pub remote_code: bool,
}

/// A file of the checkpoint's directory, by name alone.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// The name, with replacement characters where it is not UTF-8.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) is_utf8: bool,
}

/// The result of [`sort_out`].
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) copied: Vec<SideFile>,
    /// Names, and why each was left out.
    pub(super) left_out: Vec<(String, &'static str)>,
}

/// A side file that must be copied but cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SideFileError {
    #[error(transparent)]
    Source(SourceError),
    #[error("{} is a git-lfs pointer, not the file itself", shown(name))]
    LfsPointer { name: String },
}

/// The fate of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Copy,
    CopyCode,
    /// Written anew, so that neither copy nor notice is due.
    Replace,
    LeaveOut(&'static str),
}

/// The names in a directory, sorted.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    for entry in source::entries(dir)? {
        let name = entry?.file_name();
        let path = dir.join(&name);
        files.push(Listed { is_utf8: name.to_str().is_some(), name: name.to_string_lossy().into_owned(), path });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Sorts the files that are no shards into copies and files left out.
pub(super) fn sort_out(files: &[Listed], is_shard: impl Fn(&str) -> bool) -> Result<Sorted, SideFileError> {
    let mut sorted = Sorted::default();
    for file in files.iter().filter(|file| !is_shard(&file.name)) {
        match fate(file) {
            Fate::Copy => sorted.copied.push(check(file, false)?),
            Fate::CopyCode => sorted.copied.push(check(file, true)?),
            Fate::Replace => {}
            Fate::LeaveOut(reason) => sorted.left_out.push((file.name.clone(), reason)),
        }
    }
    Ok(sorted)
}

fn fate(file: &Listed) -> Fate {
    let lower = file.name.to_lowercase();
    let (stem, extension) = lower.rsplit_once('.').unwrap_or((&lower, ""));
    if file.name == "config.json" || file.name == INDEX_FILE {
        return Fate::Replace;
    }
    if !file.is_utf8 {
        return Fate::LeaveOut("its name is not UTF-8");
    }
    if lower.starts_with('.') {
        return Fate::LeaveOut("a hidden file");
    }
    // `metadata` follows links and opens nothing.
    if fs::metadata(&file.path).is_ok_and(|metadata| metadata.is_dir()) {
        return Fate::LeaveOut("a folder");
    }
    match extension {
        "safetensors" => return Fate::LeaveOut("weights that are no part of the model"),
        "bin" | "pt" | "pth" | "ckpt" | "pkl" | "pickle" | "h5" | "msgpack" | "onnx" | "gguf" | "npz" | "npy" => {
            return Fate::LeaveOut("weights in another format");
        }
        "pem" | "key" | "p12" | "pfx" | "crt" => return Fate::LeaveOut("may be a secret"),
        "py" => return Fate::CopyCode,
        _ => {}
    }
    if is_tokenizer(stem, extension) || is_processor(&lower) || is_document(&lower) {
        Fate::Copy
    } else {
        Fate::LeaveOut("not a file that models are known to need")
    }
}

fn is_tokenizer(stem: &str, extension: &str) -> bool {
    let family = ["tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens", "chat_template"];
    match extension {
        "json" | "txt" | "bpe" => family.iter().any(|start| stem.starts_with(start)),
        "model" | "tiktoken" | "jinja" => true,
        _ => false,
    }
}

fn is_processor(name: &str) -> bool {
    matches!(
        name,
        "generation_config.json"
            | "configuration.json"
            | "preprocessor_config.json"
            | "video_preprocessor_config.json"
            | "image_processor_config.json"
            | "processor_config.json"
    )
}

fn is_document(name: &str) -> bool {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let family = ["license", "licence", "notice", "readme", "use_policy"];
    matches!(extension, "" | "md" | "txt" | "rst" | "pdf" | "html")
        && family.iter().any(|start| stem.starts_with(start))
}

/// Opens the file to see that it can be copied: regular, readable, and there.
fn check(file: &Listed, remote_code: bool) -> Result<SideFile, SideFileError> {
    let source = SourceFile::open(&file.path).map_err(SideFileError::Source)?;
    let mut start = [0; 23];
    let start = &mut start[..source.size().min(23) as usize];
    source.read_exact_at(start, 0).map_err(SideFileError::Source)?;
    if start == b"version https://git-lfs" {
        return Err(SideFileError::LfsPointer { name: file.name.clone() });
    }
    let (mode, stamp) = (source.mode(), source.stamp());
    Ok(SideFile { name: file.name.clone(), path: file.path.clone(), mode, stamp, remote_code })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn sorted(dir: &Path) -> Result<Sorted, SideFileError> {
        sort_out(&list(dir).unwrap(), |name| name == "model.safetensors")
    }

    #[test]
    fn known_files_are_copied_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let copied = [
            "LICENSE",
            "LICENSE-QWEN",
            "README.md",
            "README_zh.md",
            "Notice.txt",
            "added_tokens.json",
            "chat_template.jinja",
            "chat_template.json",
            "configuration.json",
            "generation_config.json",
            "merges.txt",
            "modeling_x.py",
            "preprocessor_config.json",
            "processor_config.json",
            "qwen.tiktoken",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "video_preprocessor_config.json",
            "vocab.json",
        ];
        let left_out = [
            ".env",
            ".gitattributes",
            "consolidated.safetensors",
            "id.key",
            "leak.json",
            "model.gguf",
            "n.tmp",
            "optimizer.pt",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "tokenizer.pkl",
            "training_args.bin",
            "vocab.json.lock",
            "readme.exe",
            "a\nb.txt",
        ];
        for name in copied.iter().chain(&left_out).chain(&["model.safetensors", "config.json", INDEX_FILE]) {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        fs::create_dir(dir.path().join("tokenizer.json.d")).unwrap();
        symlink("/", dir.path().join("vocab.txt")).unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(b"vocab\xff.txt")), "x").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("pipe.json"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();

        let Sorted { copied: found, left_out: out } = sorted(dir.path()).unwrap();
        let mut expected = copied.to_vec();
        expected.sort_unstable();
        assert_eq!(found.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), expected);
        let code: Vec<_> = found.iter().filter(|file| file.remote_code).map(|file| file.name.as_str()).collect();
        assert_eq!(code, ["modeling_x.py"]);
        assert_eq!(out.len(), left_out.len() + 4);
        let reason = |name: &str| out.iter().find(|(found, _)| found == name).map(|(_, reason)| *reason);
        assert_eq!(reason(".env"), Some("a hidden file"));
        assert_eq!(reason("vocab.txt"), Some("a folder"));
        assert_eq!(reason("consolidated.safetensors"), Some("weights that are no part of the model"));
        assert_eq!(reason("vocab\u{fffd}.txt"), Some("its name is not UTF-8"));
        assert_eq!(reason("pipe.json"), Some("not a file that models are known to need"));
    }

    #[test]
    fn modes_are_recorded_and_links_followed() {
        let dir = tempfile::tempdir().unwrap();
        let blob = dir.path().join("blob");
        fs::write(&blob, "{}").unwrap();
        fs::set_permissions(&blob, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("blob", dir.path().join("tokenizer.json")).unwrap();
        let found = sorted(dir.path()).unwrap().copied;
        assert_eq!((found[0].mode, found[0].stamp.size), (0o600, 2));
    }

    #[test]
    fn a_known_file_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(sorted(dir.path()).unwrap_err().to_string().contains("not a regular file but a named pipe"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
        assert_eq!(
            sorted(dir.path()).unwrap_err().to_string(),
            "`tokenizer.json` is a git-lfs pointer, not the file itself"
        );
        fs::remove_file(&path).unwrap();
        symlink("gone", &path).unwrap();
        assert!(sorted(dir.path()).unwrap_err().to_string().contains("is a dangling symlink to `gone`"));
    }
}
