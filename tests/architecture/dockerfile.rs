//! `Dockerfile` names what is there: no engine builds it in CI.

use std::fs;
use std::path::Path;

/// The text of a file of the repository.
fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_dockerfile_builds_the_program_with_the_pinned_compiler_and_takes_it_from_where_cargo_puts_it() {
    let dockerfile = text("Dockerfile");
    let steps: Vec<&str> = dockerfile.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let of = |instruction: &str| -> Vec<Vec<&str>> {
        let with = steps.iter().filter(|step| step.split(' ').next() == Some(instruction));
        with.map(|step| step.split(' ').skip(1).collect()).collect()
    };
    // Every line is one of these instructions.
    let known = ["FROM", "WORKDIR", "COPY", "RUN", "ENTRYPOINT"].map(of);
    let [from, workdir, copy, run, entrypoint] = &known;
    assert_eq!(known.iter().map(Vec::len).sum::<usize>(), steps.len(), "{steps:#?}");

    let toolchain: toml::Table = toml::from_str(&text("rust-toolchain.toml")).unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    let version = from[0][0].strip_prefix("rust:").and_then(|tag| tag.strip_suffix("-alpine")).unwrap();
    assert!(channel.starts_with(&format!("{version}.")), "{version} is not {channel}");
    assert_eq!(from[0][1..], ["AS", "build"]);
    assert_eq!(from[1], ["scratch"]);

    // What it builds is a package with this feature and this program.
    let manifest: toml::Table = toml::from_str(&text("Cargo.toml")).unwrap();
    let name = manifest["package"]["name"].as_str().unwrap();
    let build = &run[0];
    let after = |option: &str| build[build.iter().position(|word| *word == option).unwrap() + 1];
    assert_eq!((build[0], build[1], after("-p")), ("cargo", "build", name));
    assert!(build.contains(&"--release") && build.contains(&"--locked"), "{build:?}");
    assert!(manifest["features"].as_table().unwrap().contains_key(after("--features")));
    let built = format!("{}/target/release/{name}", workdir[0][0]);
    assert_eq!(copy[1], ["--from=build", &built, &format!("/{name}")]);
    assert_eq!(entrypoint[0].join(" "), format!("[\"/{name}\"]"));
    // `target/` of the machine must not hide what is built there.
    assert!(text(".dockerignore").lines().any(|line| line == "/target"));
}
