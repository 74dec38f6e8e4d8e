//! Paths that Rust files name, and the modules that they lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use super::rust_source::{SourceText, line_of};

/// A path in a file, written out in full: `crate`, `self`, `super` and names brought in by `use` are resolved as far as the
/// package goes; other packages of this repository go by their module names (`checkpoint`, `check`, `schemes`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    /// Index of the file in the package.
    pub(crate) file: usize,
    pub(crate) line: usize,
    /// The segments, the package's own prefix first.
    pub(crate) path: Vec<String>,
    /// Whether a `pub use` names it.
    pub(crate) is_reexport: bool,
}

/// The files of a package as modules.
pub(crate) struct Package<'a> {
    pub(crate) files: Vec<&'a SourceText>,
    /// Module path, the prefix included → index of the file.
    modules: BTreeMap<Vec<String>, usize>,
    /// By file: the name that a `use` brings in → the path behind it.
    aliases: Vec<BTreeMap<String, Vec<String>>>,
    /// By file: modules whose names `use …::*` brings in.
    globs: Vec<Vec<Vec<String>>>,
    /// By file: names of the items that it defines.
    items: Vec<BTreeSet<&'a str>>,
    pub(crate) imports: Vec<Import>,
}

/// A `use` with its braces expanded.
struct Use {
    line: usize,
    path: Vec<String>,
    name: String,
    is_public: bool,
}

impl<'a> Package<'a> {
    /// Reads the package whose `lib.rs` lies in `root` (which ends in `/`); its modules' paths begin with `prefix`. Files in
    /// the folders `but` belong to other packages.
    pub(crate) fn new(sources: &'a [SourceText], root: &str, prefix: &[&str], but: &[&str]) -> Self {
        let prefix: Vec<String> = prefix.iter().map(|segment| (*segment).to_owned()).collect();
        let is_own = |path: &str| path.starts_with(root) && !but.iter().any(|folder| path.starts_with(folder));
        let files: Vec<_> = sources.iter().filter(|source| is_own(&source.path)).collect();
        let module_of = |source: &SourceText| {
            let inner = source.path[root.len()..].trim_end_matches(".rs");
            let segments = inner.split('/').filter(|segment| !["lib", "main", "mod"].contains(segment));
            prefix.iter().cloned().chain(segments.map(str::to_owned)).collect::<Vec<_>>()
        };
        let own: Vec<_> = files.iter().map(|source| module_of(source)).collect();
        let mut modules = BTreeMap::new();
        for (index, module) in own.iter().enumerate().filter(|(index, _)| !files[*index].path.ends_with("main.rs")) {
            modules.insert(module.clone(), index);
        }
        let items = files.iter().map(|source| items_of(&source.code)).collect();
        let mut package = Self { files, modules, aliases: Vec::new(), globs: Vec::new(), items, imports: Vec::new() };
        let mut uses = Vec::new();
        for (index, module) in own.iter().enumerate() {
            let absolute = |path: &[String]| package.absolute(path, module, &prefix);
            let found: Vec<_> = uses_of(&package.files[index].code)
                .into_iter()
                .filter_map(|used| absolute(&used.path).map(|path| Use { path, ..used }))
                .collect();
            let is_glob = |used: &&Use| used.name == "*";
            let globs = found.iter().filter(is_glob).map(|used| used.path.clone()).collect();
            let named = found.iter().filter(|used| !is_glob(used));
            package.aliases.push(named.map(|used| (used.name.clone(), used.path.clone())).collect());
            package.globs.push(globs);
            uses.push(found);
        }
        let mut imports = BTreeSet::new();
        for (file, module) in own.iter().enumerate() {
            for used in &uses[file] {
                let path = package.resolve(&used.path);
                imports.insert(Import { file, line: used.line, path, is_reexport: used.is_public });
            }
            for (line, path) in inline_paths(&package.files[file].code) {
                let path = match package.aliases[file].get(&path[0]) {
                    Some(target) => [target, &path[1..]].concat(),
                    None => match package.absolute(&path, module, &prefix) {
                        Some(path) => path,
                        None => continue,
                    },
                };
                imports.insert(Import { file, line, path: package.resolve(&path), is_reexport: false });
            }
        }
        package.imports = imports.into_iter().collect();
        package
    }

    /// Writes a path out in full; `None` where it begins with a name of this file.
    fn absolute(&self, path: &[String], module: &[String], prefix: &[String]) -> Option<Vec<String>> {
        let mut base = module.to_vec();
        let rest = match path[0].as_str() {
            "crate" => {
                base = prefix.to_vec();
                &path[1..]
            }
            "self" => &path[1..],
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                base.truncate(base.len().saturating_sub(ups));
                &path[ups..]
            }
            first => {
                if let Some(package) = first.strip_prefix("qwen_fp8_") {
                    return Some([&[package.to_owned()], &path[1..]].concat());
                }
                base.push(first.to_owned());
                if self.modules.contains_key(&base) {
                    return Some([&base[..], &path[1..]].concat());
                }
                // Another crate begins in lower case; a type of this file does not.
                return first.starts_with(|c: char| c.is_ascii_lowercase()).then(|| path.to_vec());
            }
        };
        Some([&base[..], rest].concat())
    }

    /// Follows re-exports, so that the path is the one of the file that defines the item.
    fn resolve(&self, path: &[String]) -> Vec<String> {
        let mut path = path.to_vec();
        // As many as a chain of re-exports may be long.
        for _ in 0..8 {
            let Some((depth, file)) = self.module_of(&path) else { return path };
            let Some(name) = path.get(depth) else { return path };
            let from_glob = || {
                let mut globs = self.globs[file].iter().filter_map(|glob| Some((glob, self.file_of(glob)?)));
                let (glob, _) =
                    globs.find(|(_, target)| *target != file && self.items[*target].contains(name.as_str()))?;
                Some([&glob[..], std::slice::from_ref(name)].concat())
            };
            let Some(target) = self.aliases[file].get(name).cloned().or_else(from_glob) else { return path };
            if target == path[..=depth] {
                return path;
            }
            path = [&target, &path[depth + 1..]].concat();
        }
        path
    }

    /// Finds the module that a path leads into: how many segments it has, and its file.
    fn module_of(&self, path: &[String]) -> Option<(usize, usize)> {
        (0..=path.len()).rev().find_map(|depth| Some((depth, *self.modules.get(&path[..depth])?)))
    }

    /// Finds the file that a path leads to, where it is one of this package.
    pub(crate) fn file_of(&self, path: &[String]) -> Option<usize> {
        // The root of a package without a prefix is no answer: every other crate would lead there.
        let (depth, file) = self.module_of(path)?;
        (depth > 0).then_some(file)
    }

    /// Reports whether the path ends at a module, so that only what is taken from it later counts.
    pub(crate) fn is_module(&self, path: &[String]) -> bool {
        self.modules.contains_key(path)
    }

    /// Reports whether `file` is a module inside of `parent`'s.
    pub(crate) fn is_inside(&self, file: usize, parent: usize) -> bool {
        let path = |index| self.modules.iter().find(|(_, file)| **file == index).map(|(path, _)| path);
        matches!((path(file), path(parent)), (Some(inner), Some(outer)) if inner.len() > outer.len() && inner.starts_with(outer))
    }
}

// Each is compiled once: that takes longer than what it does to a file.
static USE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^ *(pub(?:\([^)]*\))? +)?use\s+([^;]+);").unwrap());
static ITEM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?:struct|enum|trait|type|fn|const|static|macro_rules!) +([A-Za-z_][A-Za-z0-9_]*)").unwrap()
});
static INLINE_PATH: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)+").unwrap());

/// Lists the names of the items that a file defines.
fn items_of(code: &str) -> BTreeSet<&str> {
    ITEM.captures_iter(code).map(|found| found.get(1).unwrap().as_str()).collect()
}

/// Lists the `use` declarations of a file, braces expanded.
fn uses_of(code: &str) -> Vec<Use> {
    let mut uses = Vec::new();
    for found in USE.captures_iter(code) {
        let tree = found.get(2).unwrap();
        expand(tree.as_str(), &[], &mut |path, name, offset| {
            let line = line_of(code, tree.start() + offset);
            uses.push(Use { line, path, name, is_public: found.get(1).is_some() });
        });
    }
    uses
}

/// Expands a `use` tree, calling `visit` with each path, the name that it brings in, and its place in the tree.
fn expand(tree: &str, before: &[String], visit: &mut impl FnMut(Vec<String>, String, usize)) {
    expand_at(tree, 0, before, visit);
}

fn expand_at(tree: &str, offset: usize, before: &[String], visit: &mut impl FnMut(Vec<String>, String, usize)) {
    let (mut depth, mut begin) = (0, 0);
    let mut parts = Vec::new();
    for (index, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push((begin, &tree[begin..index]));
                begin = index + 1;
            }
            _ => {}
        }
    }
    parts.push((begin, &tree[begin..]));
    for (begin, part) in parts.into_iter().filter(|(_, part)| !part.trim().is_empty()) {
        let place = offset + begin + (part.len() - part.trim_start().len());
        let segments = |text: &str| {
            let segments = text.split("::").map(str::trim).filter(|segment| !segment.is_empty());
            before.iter().cloned().chain(segments.map(str::to_owned)).collect::<Vec<_>>()
        };
        if let Some((outer, inner)) = part.split_once('{') {
            let inner_offset = offset + begin + outer.len() + 1;
            expand_at(inner.trim_end().trim_end_matches('}'), inner_offset, &segments(outer), visit);
            continue;
        }
        let (path, name) = part.split_once(" as ").map_or((part, None), |(path, name)| (path, Some(name.trim())));
        let mut path = segments(path);
        if path.len() > 1 && path.last().is_some_and(|last| last == "self" || last == "*") {
            let last = path.pop().unwrap();
            let name = if last == "*" { last } else { path.last().unwrap().clone() };
            visit(path, name, place);
        } else {
            let name = name.map_or_else(|| path.last().unwrap().clone(), str::to_owned);
            visit(path, name, place);
        }
    }
}

/// Lists the paths of two segments or more outside of `use` declarations, with their lines.
fn inline_paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let code = USE.replace_all(code, |found: &regex::Captures<'_>| {
        found[0].chars().map(|c| if c == '\n' { c } else { ' ' }).collect::<String>()
    });
    let mut paths = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let found = INLINE_PATH.find_iter(line).filter(|found| !line[..found.start()].ends_with("::"));
        paths.extend(found.map(|found| (index + 1, found.as_str().split("::").map(str::to_owned).collect())));
    }
    paths
}

#[test]
fn use_trees_expand_to_paths_names_and_lines() {
    let uses = uses_of("use a::{\n    b::{self, C},\n    d as e,\n};\npub(crate) use super::*;\n");
    let shown: Vec<_> =
        uses.iter().map(|used| format!("{} {} {}", used.line, used.path.join("::"), used.name)).collect();
    assert_eq!(shown, ["2 a::b b", "2 a::b::C C", "3 a::d e", "5 super *"]);
    assert_eq!(uses.iter().map(|used| used.is_public).collect::<Vec<_>>(), [false, false, false, true]);
}

#[test]
fn imports_lead_to_the_file_that_defines_the_item() {
    let sources = [
        SourceText::new("s/lib.rs", "pub mod a;\nmod c;\n"),
        SourceText::new("s/a.rs", "mod b;\npub use b::Item;\n"),
        SourceText::new("s/a/b.rs", "pub struct Item;\n"),
        SourceText::new("s/c.rs", "use crate::a;\nfn f(_: a::Item) { super::a::g(); std::fs::read(); }\n"),
    ];
    let package = Package::new(&sources, "s/", &[], &[]);
    let of_c = package.imports.iter().filter(|import| package.files[import.file].path == "s/c.rs");
    let shown: Vec<_> = of_c.map(|import| format!("{} {}", import.line, import.path.join("::"))).collect();
    assert_eq!(shown, ["1 a", "2 a::b::Item", "2 a::g", "2 std::fs::read"]);
    assert_eq!(package.file_of(&["a".to_owned(), "b".to_owned(), "Item".to_owned()]), Some(2));
}
