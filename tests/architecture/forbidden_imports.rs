//! The column "knows nothing of" of `docs/architecture.md` holds for every import.

use super::packages::packages;
use super::sources;
use crate::support::rust_imports::Package;
use crate::support::rust_source::SourceText;

const GUIDE: &str = include_str!("../../docs/architecture.md");

/// Breaches that are still there, as `folder: path`. An entry that is not needed any more fails, too.
const KNOWN: &[&str] = &[];

/// A row of the guide's table.
#[derive(Debug, PartialEq)]
struct Wall {
    /// The folder, with `/` at its end, or one file.
    folder: String,
    /// Paths that no file of it may name, as the engine would write them.
    forbidden: Vec<Vec<String>>,
}

/// Reads the rows of the table whose last column is "knows nothing of"; names count that stand in backticks there.
fn walls(guide: &str) -> Vec<Wall> {
    let rows = guide.lines().skip_while(|line| !line.replace(' ', "").ends_with("|knowsnothingof|"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut walls = Vec::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        let forbidden: Vec<_> = quoted(cells.last().unwrap()).iter().map(|name| segments(name)).collect();
        walls.extend(quoted(cells[0]).into_iter().map(|folder| Wall { folder, forbidden: forbidden.clone() }));
    }
    walls
}

/// Splits a path; a package of this repository goes by the name that the engine gives it.
fn segments(path: &str) -> Vec<String> {
    path.trim_start_matches("qwen_fp8_").split("::").map(str::to_owned).collect()
}

/// Lists the breaches, each as its key in [`KNOWN`] and its place.
fn breaches(walls: &[Wall], packages: &[Package<'_>]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for package in packages {
        for import in &package.imports {
            let path = &package.files[import.file].path;
            let of_folder = |wall: &&Wall| {
                path.starts_with(&wall.folder) || *path == format!("{}.rs", wall.folder.trim_end_matches('/'))
            };
            for wall in walls.iter().filter(of_folder) {
                for forbidden in wall.forbidden.iter().filter(|forbidden| import.path.starts_with(forbidden)) {
                    let key = format!("{}: {}", wall.folder, forbidden.join("::"));
                    found.push((key, format!("{path}:{} names `{}`", import.line, import.path.join("::"))));
                }
            }
        }
    }
    found
}

#[test]
fn no_folder_names_what_the_guide_says_it_knows_nothing_of() {
    let sources = sources();
    let walls = walls(GUIDE);
    assert!(walls.len() >= 7, "the guide's table has lost its rows: {walls:?}");
    let breaches = breaches(&walls, &packages(sources));
    let new = breaches.iter().filter(|(key, _)| !KNOWN.contains(&key.as_str()));
    let new = new.map(|(key, place)| format!("{place}, but docs/architecture.md has `{key}`"));
    let stale = KNOWN.iter().filter(|known| !breaches.iter().any(|(key, _)| key == *known));
    let complaints: Vec<_> = new.chain(stale.map(|key| format!("`{key}` holds now: take it off the list"))).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_folder_of_the_table_exists() {
    for wall in walls(GUIDE) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&wall.folder);
        assert!(path.exists(), "docs/architecture.md names {}", wall.folder);
    }
}

#[test]
fn breaches_are_found_in_uses_and_inline_paths() {
    let guide = "| folder | holds | knows nothing of |\n|---|---|---|\n| `src/a/` | what `x` | `b`, `std::fs` and `qwen_fp8_check` |\n\n| `no` |";
    let walls = walls(guide);
    assert_eq!(walls.len(), 1);
    let sources = [
        SourceText::new("src/lib.rs", "mod a;\nmod b;\n"),
        SourceText::new("src/a.rs", "use crate::b::B;\nfn f() {\n    std::fs::read();\n    std::io::stdin();\n}\n"),
        SourceText::new("src/a/c.rs", "use super::super::b;\n// crate::b::B\nfn g(_: qwen_fp8_check::Finding) {}\n"),
        SourceText::new("src/b.rs", "use crate::a;\nuse std::fs;\n"),
    ];
    let package = Package::new(&sources, "src/", &[], &[]);
    let found = breaches(&walls, &[package]);
    let places: Vec<_> =
        found.iter().map(|(key, place)| format!("{key} {}", place.split(' ').next().unwrap())).collect();
    assert_eq!(
        places,
        ["src/a/: b src/a.rs:1", "src/a/: std::fs src/a.rs:3", "src/a/: b src/a/c.rs:1", "src/a/: check src/a/c.rs:3"]
    );
}

/// Two folders alone open connections, by one library.
#[test]
fn no_file_but_those_of_hub_and_stores_opens_a_connection() {
    let network = regex::Regex::new(r"\bstd::net\b|\b(Tcp(Stream|Listener)|UdpSocket|ToSocketAddrs|ureq)\b").unwrap();
    for (text, is_network) in
        [("use std::net::Ipv4Addr;", true), ("ureq::get(url)", true), ("std::os::unix::net::UnixStream", false)]
    {
        assert_eq!(network.is_match(text), is_network, "{text}");
    }
    let found = sources().iter().filter(|source| network.is_match(&source.code)).map(|source| source.path.as_str());
    let found: Vec<_> = found.collect();
    assert!(
        !found.is_empty()
            && found.iter().all(|path| ["src/hub/", "src/stores/"].iter().any(|folder| path.starts_with(folder))),
        "{found:?}"
    );
}
