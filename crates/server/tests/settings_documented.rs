//! Every setting of ZooKeeper has a class, and `docs/operations.md` says which.

use std::fmt::Write;
use std::path::PathBuf;
use std::{env, fs};

use ostler_server::config::{Class, Overrides, Setting, find, parse, sections};

/// Names of ZooKeeper's settings, and nothing else of it.
const REFERENCE: &str = include_str!("reference_keys.txt");

const BEGIN: &str = "<!-- settings: generated from crates/server/src/config/table, do not edit -->\n";
const END: &str = "<!-- end of settings -->\n";

fn reference_keys() -> impl Iterator<Item = &'static str> {
    REFERENCE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn every_setting_of_the_reference_has_a_class_of_its_own() {
    let many = ["server.*", "group.*", "weight.*", "authProvider.*", "superUser.*", "metricsProvider.*"];
    assert!(reference_keys().count() > 250);
    for key in reference_keys() {
        for key in [key.to_owned(), format!("zookeeper.{key}")] {
            let row = find(&key).unwrap_or_else(|| panic!("{key} is unknown"));
            assert!(
                row.prefix().is_none() || many.contains(&row.name),
                "{key} is only caught by {}",
                row.name
            );
        }
    }
}

#[test]
fn zookeepers_own_defaults_are_never_refused() {
    for row in sections().flat_map(|(_, rows)| rows) {
        // TLS settings say that TLS is wanted, whatever their value.
        if row.default.starts_with('(') || row.name.starts_with("ssl.") {
            continue;
        }
        let key = row.name.replace('*', "1");
        let text = format!("dataDir=/d\nclientPort=2181\n{key}={}\n", row.default);
        if let Err(error) = parse("zoo.cfg", text.as_bytes(), &Overrides::default()) {
            panic!("{error}");
        }
    }
}

fn row(setting: &Setting) -> String {
    let Setting { name, aliases, class, default, unit, effect } = setting;
    let names =
        std::iter::once(name).chain(*aliases).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let default = if default.starts_with('(') { (*default).to_owned() } else { format!("`{default}`") };
    let (class, effect) = match class {
        Class::Honoured => ("honoured", (*effect).to_owned()),
        Class::NoEffect(reason) => ("no effect", format!("{effect}. No effect: {reason}")),
        Class::Refused { why, instead, harmless } => {
            let except =
                match harmless.iter().filter(|value| !value.is_empty()).collect::<Vec<_>>().as_slice() {
                    [] => String::new(),
                    values => {
                        let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
                        format!(" unless {}", values.join(" or "))
                    }
                };
            ("refused", format!("{effect}. Refused{except}: {why}; {instead}"))
        }
    };
    format!("| {names} | {class} | {default} | {unit} | {effect} |")
}

fn generated() -> String {
    let mut text = BEGIN.to_owned();
    for (heading, rows) in sections() {
        let _ = write!(
            text,
            "\n### {heading}\n\n| setting | class | default | unit | effect |\n|---|---|---|---|---|\n"
        );
        for setting in rows {
            let _ = writeln!(text, "{}", row(setting));
        }
    }
    text + "\n" + END
}

#[test]
fn the_documentation_lists_every_setting() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let document = fs::read_to_string(&path).expect("docs/operations.md is part of the repository");
    let (before, rest) =
        document.split_once(BEGIN).expect("docs/operations.md has the line that begins the settings");
    let (_, after) = rest.split_once(END).expect("docs/operations.md has the line that ends the settings");
    let expected = format!("{before}{}{after}", generated());
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).expect("docs/operations.md can be written");
    } else {
        assert!(
            document == expected,
            "docs/operations.md is behind the table of settings: run with UPDATE_DOCS=1 to rewrite"
        );
    }
    for key in reference_keys() {
        let name = find(key).expect("checked above").name;
        assert!(expected.contains(&format!("| `{name}`")), "{name}");
    }
}
