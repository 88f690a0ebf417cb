//! The rules of the house that a machine can check. They hold for what is written by hand in this repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare_tests::repository;

/// A file has one subject; longer ones have two.
const LINES_MAX: usize = 600;

/// Which crates of this workspace each may name: floors below its own only.
const FLOORS: [(&str, &[&str]); 15] = [
    ("crates/wire", &[]),
    ("crates/engine", &["wire"]),
    ("crates/backend", &["wire", "engine"]),
    ("crates/gateway", &["wire", "engine"]),
    ("crates/watch", &["wire", "engine", "gateway"]),
    ("crates/chat", &["wire", "engine", "gateway"]),
    ("crates/ingress", &["wire", "engine", "gateway"]),
    ("crates/mail", &["wire", "engine", "gateway", "ingress"]),
    (
        "crates/server",
        &[
            "wire", "engine", "backend", "gateway", "chat", "watch", "ingress", "mail", "bench",
            "stand-in",
        ],
    ),
    ("instructions", &["wire", "engine"]),
    ("simulation", &["wire", "engine"]),
    // Who puts mail into Google's mailboxes; it is no part of the product, and no client of it either.
    ("bench", &["stand-in"]),
    ("stand-in", &[]),
    ("fuzz", &["wire"]),
    ("tests", &["bench", "stand-in"]),
];

/// For tests a crate may also name the launcher of real servers, the stand-in for Google, and itself with its own test helpers.
const FOR_TESTS: [&str; 2] = ["bench", "stand-in"];

/// Apps, which for tests need a real database too.
const APPS: [&str; 4] = [
    "crates/watch",
    "crates/ingress",
    "crates/mail",
    "crates/chat",
];

/// Folders that are not ours.
const FOREIGN: [&str; 5] = ["target", "node_modules", ".git", "dist", "fanfare-data"];

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = files_with("rs", &repository().join("crates"))
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:#?}");
}

#[test]
fn every_module_says_what_it_is() {
    let silent: Vec<PathBuf> = files_with("rs", &repository())
        .into_iter()
        .filter(|(path, text)| !text.starts_with("//!") && !path.ends_with("tests.rs"))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "without a `//!` header: {silent:#?}");
}

#[test]
fn nothing_unwraps_without_a_proof() {
    let mut bare = Vec::new();
    for (path, text) in files_with("rs", &repository().join("crates")) {
        if is_for_tests(&path) {
            continue;
        }
        for number in bare_unwraps(&text) {
            bare.push(format!("{}:{number}", path.display()));
        }
    }
    assert!(
        bare.is_empty(),
        "`unwrap()` outside tests without `// invariant: …` on its line or the one before: {bare:#?}"
    );
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (folder, below) in FLOORS {
        let manifest = fs::read_to_string(repository().join(folder).join("Cargo.toml")).unwrap();
        for (section, name) in own_dependencies(&manifest) {
            let itself = folder.ends_with(&name);
            let database = APPS.contains(&folder) && name == "backend";
            let helps = FOR_TESTS.contains(&name.as_str()) || itself || database;
            let for_tests = section == "dev-dependencies" && helps;
            if !below.contains(&name.as_str()) && !for_tests {
                wrong.push(format!("{folder} names fanfare-{name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_crate_has_its_floor() {
    let workspace = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let members = workspace
        .split_once("members = [")
        .unwrap()
        .1
        .split_once(']')
        .unwrap()
        .0;
    let members: Vec<&str> = members
        .lines()
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    let floors: Vec<&str> = FLOORS.iter().map(|(folder, _)| *folder).collect();
    assert_eq!(
        members, floors,
        "members of the workspace and the floors of this test"
    );
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut dead = Vec::new();
    let documents = files_with("md", &repository());
    assert!(!documents.is_empty());
    for (path, text) in documents {
        for target in links(&text) {
            let folder = path.parent().unwrap();
            if !folder.join(&target).exists() {
                dead.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// All our files with this extension below a folder, with their text.
fn files_with(extension: &str, folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !FOREIGN.contains(&name.as_str()) {
                files.append(&mut files_with(extension, &path));
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = fs::read_to_string(&path).unwrap();
            files.insert(path, text);
        }
    }
    files
}

/// Whole files that exist for tests only: test folders, contract suites, test helpers.
fn is_for_tests(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default();
    let in_folder = path.components().any(|part| {
        ["tests", "contract", "testing"]
            .iter()
            .any(|folder| part.as_os_str() == *folder)
    });
    in_folder || stem == "tests" || stem == "testing" || stem == "contract"
}

/// Line numbers of `unwrap()` in code before the tests at the bottom of a file, without a proof.
fn bare_unwraps(text: &str) -> Vec<usize> {
    let mut bare = Vec::new();
    let mut before = "";
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        let proven = [before, line]
            .iter()
            .any(|line| line.contains("// invariant:"));
        if code.contains(".unwrap()") && !proven {
            bare.push(index + 1);
        }
        before = line;
    }
    bare
}

/// The dependencies of a manifest that are crates of this workspace: section and name without `fanfare-`.
fn own_dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
        } else if section.ends_with("dependencies")
            && let Some(rest) = line.strip_prefix("fanfare-")
        {
            let name = rest.split(['.', ' ', '=']).next().unwrap_or_default();
            found.push((section.to_owned(), name.to_owned()));
        }
    }
    found
}

/// Targets of a document's relative links, without their fragments; code is skipped.
fn links(text: &str) -> Vec<String> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        for (start, _) in line.match_indices("](") {
            let target = line[start + 2..]
                .split([')', ' '])
                .next()
                .unwrap_or_default();
            let target = target.split('#').next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !target.is_empty() && !elsewhere {
                found.push(target.to_owned());
            }
        }
    }
    found
}

#[test]
fn the_checks_see_what_they_look_for() {
    let text = "a.unwrap();\n// invariant: b is there\nb.unwrap();\nc.unwrap(); // invariant: so\n\
                // d.unwrap()\n#[cfg(test)]\nmod tests { e.unwrap(); }\n";
    assert_eq!(bare_unwraps(text), [1]);

    let manifest = "[dependencies]\nfanfare-wire.workspace = true\nbytes = \"1\"\n\
                    [dev-dependencies]\nfanfare-bench = { path = \"x\" }\n[features]\nfanfare-x = []\n";
    let expected = [("dependencies", "wire"), ("dev-dependencies", "bench")];
    let expected = expected.map(|(section, name)| (section.to_owned(), name.to_owned()));
    assert_eq!(own_dependencies(manifest), expected);

    let document = "[a](A.md#x) and [b](https://b.c/d) [c](#here) ![d](img/d.svg \"title\")\n\
                    ```\n[e](missing.md)\n```\n";
    assert_eq!(links(document), ["A.md", "img/d.svg"]);
    assert!(is_for_tests(Path::new("crates/engine/src/contract/log.rs")));
    assert!(!is_for_tests(Path::new("crates/engine/src/hub/shard.rs")));
}
