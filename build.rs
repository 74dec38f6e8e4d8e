//! Tells the program what it was built of: commit, target and features, which `--version` prints.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A debug build leaves the commit out: with it, each commit would have the whole package compiled again.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = if is_release { commit() } else { None };
    println!("cargo:rustc-env=QWEN_FP8_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo:rustc-env=QWEN_FP8_TARGET={}", std::env::var("TARGET").unwrap_or_default());
    let mut features: Vec<String> = std::env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase().replace('_', "-")))
        .collect();
    features.sort_unstable();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
    println!("cargo:rustc-env=QWEN_FP8_FEATURES={features}");
}

/// The commit of the sources with its date, marked where files differ from it; `None` outside of a repository.
fn commit() -> Option<String> {
    // Without optional locks git writes nothing; a refreshed index would be newer than this build, and have it made again.
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("--no-optional-locks")
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Sources that were unpacked inside another repository have no commit of their own.
    let root = std::path::PathBuf::from(git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    let package = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?).canonicalize().ok()?;
    if root != package {
        return None;
    }
    // What is changed and not committed yet is told too, so a look at it has to follow each change.
    for sources in ["src", "schemes", "models", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={sources}");
    }
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        // Of a file that is not there cargo thinks that it changed, each time.
        if std::path::Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let commit = git(&["log", "-1", "--format=%h, %cs"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}, with changes") })
}
