//! Runs the scripts in `tests/transcripts` and compares what they print with what is written below each
//! command. To accept new output: `OSTLER_REWRITE=1 cargo test -p ostler-tree --test transcripts`, then review
//! the difference.
//!
//! A script is a list of commands, one per line; lines that begin with two spaces are output, `#` begins a
//! comment. `script.rs` explains the commands.

mod script;

use std::path::{Path, PathBuf};

#[test]
fn transcripts_are_up_to_date() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let rewrite = std::env::var_os("OSTLER_REWRITE").is_some();
    let mut outdated = Vec::new();
    for file in files {
        let expected = std::fs::read_to_string(&file).unwrap();
        let actual = script::run(&expected);
        if actual == expected {
            continue;
        }
        if rewrite {
            std::fs::write(&file, &actual).unwrap();
            continue;
        }
        let difference = expected.lines().zip(actual.lines()).enumerate().find(|(_, (a, b))| a != b);
        outdated.push(match difference {
            Some((at, (expected, actual))) => {
                format!("{}:{}:\n  expected {expected:?}\n  got      {actual:?}", file.display(), at + 1)
            }
            None => format!("{}: output is missing or left over at the end", file.display()),
        });
    }
    assert!(outdated.is_empty(), "{}", outdated.join("\n"));
}
