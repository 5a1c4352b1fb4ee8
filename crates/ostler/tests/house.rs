//! The rules of the house that a program can check: who depends on whom and on what, what the pure crates keep
//! away from, the size of files, and that what the documents and comments refer to exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::Table;

/// Crates that decide and do not act: no clock, no randomness, no I/O, no order that a seed decides.
const PURE: [&str; 6] = ["types", "wire", "tree", "node", "replication", "sim"];
/// What only tests are made of, and any crate's tests may use.
const FOR_TESTS: [&str; 2] = ["client", "testkit"];
/// Most lines of a source file.
const MAX_LINES: usize = 1_200;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `directory` whose name ends in `.extension`.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Where something is, for a person.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

struct Manifest {
    /// Name of the directory, which is the package's without "ostler-".
    name: String,
    dependencies: Table,
    dev_dependencies: Table,
}

fn manifests() -> Vec<Manifest> {
    let mut manifests = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let directory = entry.unwrap().path();
        let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let mut manifest: Table = read(&directory.join("Cargo.toml")).parse().unwrap();
        for other in ["build-dependencies", "target"] {
            assert!(!manifest.contains_key(other), "{name}: this test does not know [{other}] yet");
        }
        let mut table = |key: &str| match manifest.remove(key) {
            Some(toml::Value::Table(table)) => table,
            Some(_) => panic!("{name}: [{key}] is no table"),
            None => Table::new(),
        };
        let dependencies = table("dependencies");
        let dev_dependencies = table("dev-dependencies");
        manifests.push(Manifest { name, dependencies, dev_dependencies });
    }
    manifests
}

fn own_crate(dependency: &str) -> Option<&str> {
    dependency.strip_prefix("ostler-")
}

/// The rows, split into cells, of the table that stands between `<!-- name -->` and `<!-- end of name -->`.
fn table_in(document: &str, name: &str) -> Vec<Vec<String>> {
    let text = read(&root().join(document));
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- end of {name} -->"));
    let start = text.find(&begin).unwrap_or_else(|| panic!("{document} has no {begin}"));
    let stop = text.find(&end).unwrap_or_else(|| panic!("{document} has no {end}"));
    let rows = text[start..stop].lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands between backquotes.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What each crate may name, by a column of the table in ARCHITECTURE.md.
fn arrows(column: usize) -> BTreeMap<String, BTreeSet<String>> {
    let row = |row: Vec<String>| (row[0].trim_matches('`').to_owned(), quoted(&row[column]));
    table_in("ARCHITECTURE.md", "arrows").into_iter().map(row).collect()
}

#[test]
fn the_arrows_between_crates_are_those_of_architecture_md() {
    let (arrows, for_tests) = (arrows(1), arrows(2));
    let manifests = manifests();
    let crates: BTreeSet<&String> = manifests.iter().map(|manifest| &manifest.name).collect();
    assert_eq!(
        arrows.keys().collect::<BTreeSet<_>>(),
        crates,
        "crates in ARCHITECTURE.md, crates that exist"
    );
    for Manifest { name, dependencies, dev_dependencies } in &manifests {
        let named: BTreeSet<String> =
            dependencies.keys().filter_map(|key| own_crate(key)).map(str::to_owned).collect();
        assert_eq!(named, arrows[name], "what `{name}` names, what ARCHITECTURE.md lets it name");
        let mut reached = named.clone();
        reached.extend(FOR_TESTS.map(str::to_owned));
        reached.extend(for_tests[name].iter().cloned());
        let mut waiting: Vec<String> = reached.iter().cloned().collect();
        while let Some(next) = waiting.pop() {
            waiting.extend(arrows[&next].iter().filter(|&far| reached.insert(far.clone())).cloned());
        }
        for dependency in dev_dependencies.keys().filter_map(|key| own_crate(key)) {
            assert!(reached.contains(dependency), "the tests of `{name}` must not use `{dependency}`");
        }
    }
}

#[test]
fn every_dependency_has_its_line_in_dependencies_md() {
    let mut used: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for Manifest { name, dependencies, dev_dependencies } in manifests() {
        for dependency in dependencies.keys().filter(|key| own_crate(key).is_none()) {
            used.entry(dependency.clone()).or_default().0.insert(name.clone());
        }
        for dependency in dev_dependencies.keys().filter(|key| own_crate(key).is_none()) {
            used.entry(dependency.clone()).or_default().1.insert(name.clone());
        }
    }
    let mut listed = BTreeMap::new();
    for row in table_in("docs/dependencies.md", "dependencies") {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(!row[3].is_empty(), "{} has no reason", row[0]);
        listed.insert(row[0].trim_matches('`').to_owned(), (quoted(&row[1]), quoted(&row[2])));
    }
    for (dependency, users) in &used {
        let Some(line) = listed.get(dependency) else {
            panic!("`{dependency}` has no line in docs/dependencies.md; it is used by {users:?}")
        };
        assert_eq!(line, users, "users of `{dependency}`: docs/dependencies.md, the manifests");
    }
    for dependency in listed.keys() {
        assert!(
            used.contains_key(dependency),
            "`{dependency}` is in docs/dependencies.md and used by nobody"
        );
    }
}

#[test]
fn pure_crates_depend_on_nothing_that_acts() {
    const ACTING: [&str; 12] = [
        "async-std",
        "chrono",
        "crossbeam-channel",
        "fastrand",
        "getrandom",
        "mio",
        "rand",
        "rustix",
        "smol",
        "socket2",
        "time",
        "tokio",
    ];
    for manifest in manifests().iter().filter(|manifest| PURE.contains(&manifest.name.as_str())) {
        for (dependency, details) in &manifest.dependencies {
            assert!(!ACTING.contains(&dependency.as_str()), "`{}` uses {dependency}", manifest.name);
            // Their default hashers draw a seed.
            if ["hashbrown", "foldhash", "ahash"].contains(&dependency.as_str()) {
                let default = details.get("default-features").and_then(toml::Value::as_bool);
                assert_eq!(default, Some(false), "`{}`: default-features of {dependency}", manifest.name);
            }
        }
    }
}

/// The lines of a file that are neither comments nor tests, with their numbers. Tests stand last.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    lines
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Whether `line` has `word` between characters that cannot be part of a name.
fn has_word(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_name) && !line[at + word.len()..].starts_with(is_name))
}

#[test]
fn pure_crates_have_no_clock_no_randomness_and_no_seeded_map() {
    const FORBIDDEN: [&str; 10] = [
        "Instant",
        "SystemTime",
        "RandomState",
        "DefaultHasher",
        "thread_rng",
        "getrandom",
        "TcpStream",
        "std::fs",
        "std::thread",
        "std::env",
    ];
    let mut looked_at = 0;
    for name in PURE {
        for path in files(&root().join("crates").join(name).join("src"), "rs") {
            let text = read(&path);
            let hashbrown = text.contains("use hashbrown::");
            for (at, line) in code(&text) {
                looked_at += 1;
                if let Some(word) = FORBIDDEN.iter().find(|word| has_word(line, word)) {
                    panic!("{}:{at} has {word}: {line}", shown(&path));
                }
                let std_map = line.contains("std::collections") || !hashbrown;
                if std_map && (has_word(line, "HashMap") || has_word(line, "HashSet")) {
                    panic!("{}:{at} has std's hash map, whose order depends on a seed: {line}", shown(&path));
                }
            }
        }
    }
    assert!(looked_at > 5_000, "only {looked_at} lines: is this looking in the right place?");
}

#[test]
fn only_replication_names_the_raft_library() {
    for manifest in manifests() {
        let names = |table: &Table| ["raft", "raft-proto"].iter().any(|raft| table.contains_key(*raft));
        let named = names(&manifest.dependencies) || names(&manifest.dev_dependencies);
        assert_eq!(named, manifest.name == "replication", "`{}` and raft", manifest.name);
    }
}

#[test]
fn no_file_is_a_giant() {
    let all = [root().join("crates"), root().join("compat")];
    let of = |extension| all.iter().flat_map(move |directory| files(directory, extension));
    for path in of("rs").chain(of("py")).chain(of("java")).chain(of("go")).chain(of("c")) {
        // What compat/run has installed or built is not ours.
        if path
            .components()
            .any(|part| [".work", "target", "node_modules"].map(Some).contains(&part.as_os_str().to_str()))
        {
            continue;
        }
        let lines = read(&path).lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines: split it by its reasons to change", shown(&path));
    }
}

// --- what documents and comments refer to ---

/// Headings and bold words: what a reference by name can mean.
fn landmarks(document: &str) -> String {
    let text = read(&root().join(document));
    let is_heading = |line: &&str| line.starts_with('#');
    text.lines()
        .filter(is_heading)
        .map(|line| line.trim_start_matches('#').trim())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The comments of a file as one text, so that a reference may run over the end of a line.
fn comments(text: &str) -> String {
    let lines = text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
    lines.map(|line| line.trim_start_matches(['/', '!', ' '])).collect::<Vec<_>>().join(" ")
}

#[test]
fn sections_that_comments_name_exist() {
    let documents =
        [("protocol", "docs/protocol.md"), ("semantics", "docs/semantics.md"), ("design", "ARCHITECTURE.md")];
    let mut found = 0;
    for (word, document) in documents {
        let landmarks = landmarks(document);
        for path in files(&root().join("crates"), "rs") {
            let comments = comments(&read(&path));
            let by_path = document.starts_with("docs/").then(|| format!("`{document}`, \""));
            for opening in std::iter::once(format!("{word}, \"")).chain(by_path) {
                for (at, _) in comments.match_indices(&opening) {
                    let rest = &comments[at + opening.len()..];
                    let section = rest.split('"').next().unwrap_or_default();
                    found += 1;
                    assert!(
                        landmarks.lines().any(|heading| heading.starts_with(section)),
                        "{} refers to \"{section}\", which {document} has not",
                        shown(&path)
                    );
                }
            }
        }
    }
    assert!(found > 20, "only {found} references: is this looking in the right place?");
}

#[test]
fn invariants_that_comments_name_exist() {
    let architecture = read(&root().join("ARCHITECTURE.md"));
    let mut found = 0;
    for path in files(&root().join("crates"), "rs") {
        let comments = comments(&read(&path));
        for (at, opening) in comments.match_indices("invariant ") {
            let number: String =
                comments[at + opening.len()..].chars().take_while(char::is_ascii_alphanumeric).collect();
            if number.starts_with(|c: char| c.is_ascii_digit()) {
                found += 1;
                assert!(
                    architecture.contains(&format!("**{number}** ")),
                    "{} refers to invariant {number}, which ARCHITECTURE.md has not",
                    shown(&path)
                );
            }
        }
    }
    assert!(found > 10, "only {found} references: is this looking in the right place?");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = files(&root().join("docs"), "md");
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"] {
        documents.push(root().join(name));
    }
    for document in documents {
        let text = read(&document);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{} links to {target}, which is not there", shown(&document));
        }
    }
}

#[test]
fn documents_that_the_code_names_exist() {
    for path in files(&root().join("crates"), "rs") {
        let text = read(&path);
        for (at, opening) in text.match_indices("docs/") {
            let is_name = |c: &char| c.is_ascii_alphanumeric() || "-/_".contains(*c);
            let name: String = text[at + opening.len()..].chars().take_while(is_name).collect();
            let rest = &text[at + opening.len() + name.len()..];
            if rest.starts_with(".md") {
                let file = root().join("docs").join(format!("{name}.md"));
                assert!(file.exists(), "{} names docs/{name}.md, which is not there", shown(&path));
            }
        }
    }
}
