//! The files beside the weights: which belong to the model and are copied, which are left out, and why.

mod fate;
mod folders;
mod listed;
mod sorted;

pub(super) use fate::is_of_weights;
pub(super) use listed::{Listed, list, list_repository, open_listed};
pub(super) use sorted::Sorted;
pub use sorted::{SideFile, SideFileError};

/// Sorts the files that are no shards into copies and files left out, those in folders that the model names included.
pub(super) fn sort_out(files: &[Listed], is_shard: impl Fn(&str) -> bool) -> Result<Sorted, SideFileError> {
    let mut sorted = Sorted::default();
    let folders = folders::named(files)?;
    for file in files.iter().filter(|file| !is_shard(&file.name)) {
        match folders.iter().find(|folder| folder.is_at(file)) {
            Some(folder) => folder.sort_out(file, &mut sorted)?,
            None => sorted.take(file, fate::in_checkpoint(file))?,
        }
    }
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use std::path::Path;

    use super::*;
    use crate::layout::INDEX_FILE;

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
            "SYSTEM_PROMPT.txt",
            "config_sentence_transformers.json",
            "modules.json",
            "normalizer.json",
            "sentence_bert_config.json",
            "special_tokens_map.json",
            "tekken.json",
            "tokenizer.json",
            "tokenizer.model.v3",
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
            "params.json",
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
    fn folders_that_the_model_names_are_copied_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let modules = ["", "1_Pooling", "2_Dense", "3_Router/query_0_Dense", "../outside", "/etc", ".git", "gone"];
        let modules = modules.map(|path| format!(r#"{{"idx":0,"name":"0","path":"{path}","type":"t"}}"#));
        write("modules.json", &format!("[{}]", modules.join(",")));
        let copied = [
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "3_Router/query_0_Dense/pytorch_model.bin",
            "3_Router/router_config.json",
            "additional_chat_templates/tool_use.jinja",
        ];
        let left_out = [
            ".git/config.json",
            "1_Pooling/.env",
            "1_Pooling/optimizer.pt",
            "2_Dense/pytorch_model.bin",
            "3_Router/server.key",
            "additional_chat_templates/tool_use.json",
            "checkpoint-100/config.json",
        ];
        copied.iter().chain(&left_out).for_each(|name| write(name, "x"));
        let Sorted { copied: found, left_out: out } = sorted(dir.path()).unwrap();
        let mut expected = [&["modules.json"], &copied[..]].concat();
        expected.sort_unstable();
        let mut found: Vec<_> = found.iter().map(|file| file.name.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
        let reason = |name: &str| out.iter().find(|(found, _)| found == name).map(|(_, reason)| *reason);
        assert_eq!(reason("checkpoint-100"), Some("a folder"));
        assert_eq!(reason(".git"), Some("a hidden file"));
        assert_eq!(reason("2_Dense/pytorch_model.bin"), Some("weights in another format"));
        assert_eq!(reason("3_Router/server.key"), Some("may be a secret"));
        // Without a list that can be read, the name alone tells.
        write("modules.json", "[{");
        write("my_notes/config.json", "x");
        let found = sorted(dir.path()).unwrap().copied;
        assert!(found.iter().any(|file| file.name == "1_Pooling/config.json"));
        assert!(found.iter().all(|file| !file.name.starts_with("my_notes")));
        fs::remove_file(dir.path().join("modules.json")).unwrap();
        assert!(sorted(dir.path()).unwrap().copied.iter().all(|file| !file.name.starts_with("1_Pooling")));
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
