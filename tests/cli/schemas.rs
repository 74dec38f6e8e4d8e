//! Schemas for editors: beside a recipe that lies anywhere, and the entries for SchemaStore's catalog.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::{BLOCKS, Folder, run};

const YAML: &str = "# yaml-language-server: $schema=./recipe.schema.json";

fn schema_for(folder: &Folder, line: &str) -> Output {
    let words = folder.words(line);
    run(&[&["schema", "--for"], &words.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_schema_is_written_beside_the_recipe_and_its_line_printed() {
    let folder = Folder::new(BLOCKS);
    let output = schema_for(&folder, "@recipe.yaml");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), format!("{YAML}\n")));
    assert!(text(&output.stderr).contains("as its first line"), "{output:?}");
    assert_eq!(fs::read_to_string(folder.path("recipe.yaml")).unwrap(), BLOCKS);
    let written: Value = serde_json::from_slice(&fs::read(folder.path("recipe.schema.json")).unwrap()).unwrap();
    assert_eq!(written, serde_json::from_slice::<Value>(&run(&["schema"]).stdout).unwrap());
    // A recipe with mistakes needs the help most; a schema elsewhere is named by its address.
    fs::write(folder.path("bad.toml"), "scheme = 'FP8_BLOK'\n").unwrap();
    fs::create_dir(folder.path("a b")).unwrap();
    let elsewhere = folder.path("a b/s.json");
    let output = run(&["schema", "--for", &folder.path("bad.toml"), "--to", &elsewhere]);
    let address = fs::canonicalize(&elsewhere).unwrap().to_str().unwrap().replace(' ', "%20");
    assert_eq!(text(&output.stdout), format!("#:schema file://{address}\n"));
}

#[test]
fn the_line_is_put_in_once_and_changes_nothing_else() {
    let folder = Folder::new(BLOCKS);
    let recipe = folder.path("recipe.yaml");
    fs::set_permissions(&recipe, fs::Permissions::from_mode(0o640)).unwrap();
    for _ in 0..2 {
        let output = schema_for(&folder, "@recipe.yaml --add");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");
        assert_eq!(fs::read_to_string(&recipe).unwrap(), format!("{YAML}\n{BLOCKS}"));
    }
    assert_eq!(fs::metadata(&recipe).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(run(&["validate", &recipe]).status.success());
    // Line ends and a byte order mark stay, and a link leads to the file that is changed.
    fs::write(folder.path("dos.yml"), "\u{feff}format: fp8\r\nscheme: FP8_DYNAMIC\r\n").unwrap();
    std::os::unix::fs::symlink("dos.yml", folder.path("link.yml")).unwrap();
    assert!(schema_for(&folder, "@link.yml --add").status.success());
    let expected = format!("\u{feff}{YAML}\r\nformat: fp8\r\nscheme: FP8_DYNAMIC\r\n");
    assert_eq!(fs::read_to_string(folder.path("dos.yml")).unwrap(), expected);
    assert!(fs::symlink_metadata(folder.path("link.yml")).unwrap().is_symlink());
    let left = fs::read_dir(folder.0.path())
        .unwrap()
        .filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().contains("partial"));
    assert_eq!(left.count(), 0);
}

#[test]
fn nothing_of_anybody_is_replaced() {
    let folder = Folder::new(&format!("# mine\n# yaml-language-server:  $schema=other.json\n{BLOCKS}"));
    let before = fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let output = schema_for(&folder, "@recipe.yaml --add");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("names another schema") && said.contains(YAML), "{said}");
    assert!(text(&schema_for(&folder, "@recipe.yaml").stderr).contains("in place of the line"));
    assert_eq!(fs::read_to_string(folder.path("recipe.yaml")).unwrap(), before);
    // A file that is no schema of ours stays; one of another version is replaced.
    for (there, code) in [("{\"title\": \"other\"}", 2), ("no JSON", 2), ("{\"title\": \"qwen-fp8 recipe\"}", 0)] {
        fs::write(folder.path("mine.json"), there).unwrap();
        let output = schema_for(&folder, "@recipe.yaml --to @mine.json");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(fs::read_to_string(folder.path("mine.json")).unwrap() == there, code == 2);
    }
    for (line, code, said) in [
        ("@gone.yaml", 1, "does not exist"),
        ("-", 2, "is not the name of a recipe"),
        ("@recipe.yaml --to @no/schema.json", 2, "cannot be written"),
        ("@recipe.yaml --install", 2, "cannot be used with"),
    ] {
        let output = schema_for(&folder, line);
        assert_eq!(output.status.code(), Some(code), "{line}");
        assert!(text(&output.stderr).contains(said), "{line}: {output:?}");
    }
}

/// What SchemaStore's `schema-catalog.json` asks of a catalog.
fn catalog() -> Value {
    let of_text = json!({ "type": "string", "minLength": 1 });
    let address = json!({ "type": "string", "pattern": "^https://" });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["$schema", "version", "schemas"],
        "properties": {
            "$schema": { "enum": ["https://json.schemastore.org/schema-catalog.json"] },
            "version": { "type": "number" },
            "schemas": { "type": "array", "items": {
                "type": "object",
                "additionalProperties": false,
                "required": ["name", "url", "description"],
                "properties": {
                    "name": of_text,
                    "description": of_text,
                    "url": address,
                    "fileMatch": { "type": "array", "uniqueItems": true, "items": of_text },
                },
            } },
        },
    })
}

#[test]
fn the_entries_for_schemastore_are_entries_of_its_catalog() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/schemastore.json");
    let entries: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let errors: Vec<String> =
        jsonschema::validator_for(&catalog()).unwrap().iter_errors(&entries).map(|error| error.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    for entry in entries["schemas"].as_array().unwrap() {
        for pattern in entry["fileMatch"].as_array().unwrap() {
            // A pattern that takes other people's files is refused there.
            let ending = pattern.as_str().unwrap().strip_prefix("*.qwen-fp8.").unwrap();
            assert!(["yaml", "yml", "toml", "lock.json"].contains(&ending), "{pattern}");
        }
    }
    // A lock beside a recipe of such a name has a name of the other pattern.
    let folder = Folder::new(BLOCKS);
    fs::rename(folder.path("recipe.yaml"), folder.path("my.qwen-fp8.yaml")).unwrap();
    assert!(run(&["plan", &folder.path("my.qwen-fp8.yaml"), "-m", super::FIXTURE, "--lock"]).status.success());
    assert!(Path::new(&folder.path("my.qwen-fp8.lock.json")).exists());
}
