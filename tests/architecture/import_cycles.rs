//! No file imports, on whatever way, a file that imports it.

use std::collections::{BTreeMap, BTreeSet};

use super::packages::packages;
use super::sources;
use crate::support::rust_imports::Package;
use crate::support::rust_source::SourceText;

/// Files that are still in a circle. An entry that is not needed any more fails, too.
const KNOWN: &[&str] = &[];

/// The files that each file imports from, with the first line that does.
fn imports(package: &Package<'_>) -> BTreeMap<usize, BTreeMap<usize, usize>> {
    let mut edges = BTreeMap::<usize, BTreeMap<usize, usize>>::new();
    for import in &package.imports {
        let Some(target) = package.file_of(&import.path) else { continue };
        // A module by itself is no import, only what is taken from it; a parent may show what its children hold.
        let is_shown = import.is_reexport && package.is_inside(target, import.file);
        if target != import.file && !package.is_module(&import.path) && !is_shown {
            edges.entry(import.file).or_default().entry(target).or_insert(import.line);
        }
    }
    edges
}

/// Groups of files each of which reaches all others of its group.
fn circles(edges: &BTreeMap<usize, BTreeMap<usize, usize>>) -> Vec<Vec<usize>> {
    let reached = |from: usize| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            open.extend(edges.get(&file).into_iter().flat_map(BTreeMap::keys).filter(|next| seen.insert(**next)));
        }
        seen
    };
    let reach: BTreeMap<_, _> = edges.keys().map(|file| (*file, reached(*file))).collect();
    let group = |file: &usize| {
        let back = |other: &&usize| reach.get(*other).is_some_and(|reached| reached.contains(file));
        reach[file].iter().filter(back).copied().collect::<Vec<_>>()
    };
    let groups: BTreeSet<_> = edges.keys().map(group).filter(|group| !group.is_empty()).collect();
    groups.into_iter().collect()
}

/// Shows a circle: each file with its imports from the others.
fn shown(package: &Package<'_>, edges: &BTreeMap<usize, BTreeMap<usize, usize>>, circle: &[usize]) -> String {
    let mut lines = format!("a circle of {} files:\n", circle.len());
    for file in circle {
        for (target, line) in edges[file].iter().filter(|(target, _)| circle.contains(target)) {
            lines.push_str(&format!(
                "  {}:{line} imports from {}\n",
                package.files[*file].path, package.files[*target].path
            ));
        }
    }
    lines
}

#[test]
fn no_files_import_each_other() {
    let sources = sources();
    let (mut complaints, mut found) = (Vec::new(), BTreeSet::new());
    for package in packages(sources) {
        let edges = imports(&package);
        for circle in circles(&edges) {
            let paths: Vec<_> = circle.iter().map(|file| package.files[*file].path.as_str()).collect();
            if !paths.iter().all(|path| KNOWN.contains(path)) {
                complaints.push(shown(&package, &edges, &circle));
            }
            found.extend(paths.into_iter().map(str::to_owned));
        }
    }
    let stale = KNOWN.iter().filter(|path| !found.contains(**path));
    complaints.extend(stale.map(|path| format!("{path} is in no circle now: take it off the list")));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn circles_are_found_through_re_exports_and_parents() {
    let sources = [
        SourceText::new("src/lib.rs", "mod a;\nmod d;\n"),
        SourceText::new("src/a.rs", "mod b;\nmod c;\npub use b::B;\nfn f() { c::g() }\n"),
        SourceText::new("src/a/b.rs", "pub struct B;\n"),
        SourceText::new("src/a/c.rs", "use super::B;\nuse crate::d::D;\n"),
        SourceText::new("src/d.rs", "pub struct D;\nfn h() { crate::a::f() }\n"),
    ];
    let package = Package::new(&sources, "src/", &[], &[]);
    let edges = imports(&package);
    let circles = circles(&edges);
    assert_eq!(circles.len(), 1);
    let expected = "a circle of 3 files:\n  src/a.rs:4 imports from src/a/c.rs\n  src/a/c.rs:2 imports from src/d.rs\n  \
                    src/d.rs:2 imports from src/a.rs\n";
    assert_eq!(shown(&package, &edges, &circles[0]), expected);
    // A parent that only shows what its child holds is in no circle with a child that uses it.
    let sources = [
        SourceText::new("src/lib.rs", "mod a;\n"),
        SourceText::new("src/a.rs", "mod b;\npub use b::B;\npub struct A;\n"),
        SourceText::new("src/a/b.rs", "use super::A;\npub struct B;\n"),
    ];
    assert!(super::import_cycles::circles(&imports(&Package::new(&sources, "src/", &[], &[]))).is_empty());
}
