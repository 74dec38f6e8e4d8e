//! Where a page may be written.

use std::fs;

use super::verify;
use crate::support::folder::Base;

#[test]
fn a_page_replaces_a_page_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.html");
    let report =
        |path: &std::path::Path| verify(Base::Block.dir(), &["--no-source", "--report", path.to_str().unwrap()]);
    assert_eq!(report(&path).status.code(), Some(0));
    let first = fs::read(&path).unwrap();
    assert_eq!(report(&path).status.code(), Some(0));
    assert_eq!(fs::read(&path).unwrap()[..500], first[..500]);
    for other in ["<!doctype html><html>mine</html>", ""] {
        fs::write(&path, other).unwrap();
        let refused = report(&path);
        assert_eq!(refused.status.code(), Some(2), "{other:?}");
        // Refused before the work: nothing was found out.
        assert!(refused.stdout.is_empty());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            said.contains("is there already and is no report") && said.contains("= help: name another file"),
            "{said}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), other);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no part of a page is left");
}

#[test]
fn a_page_has_a_directory_and_is_no_file_of_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let inside = Base::Block.dir().join("report.html");
    for (path, says) in [
        (inside.as_path(), "would be a file of the checkpoint"),
        (&dir.path().join("none/report.html"), "the directory of the report"),
        (dir.path(), "is there already and is no report"),
        (&dir.path().join(".."), "names no file for the report"),
    ] {
        let refused = verify(Base::Block.dir(), &["--no-source", "--report", path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{path:?}: {said}");
        assert!(said.contains(says) && said.contains("= help: "), "{path:?}: {said}");
    }
    assert!(!inside.exists());
}
