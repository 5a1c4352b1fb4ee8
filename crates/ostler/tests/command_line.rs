//! The program as it is run: arguments in, output and exit status out.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn ostler(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
    command.args(arguments).env_remove("OSTLER_LOG").output().expect("the program was built")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program writes UTF-8")
}

fn file(dir: &Path, lines: &str) -> String {
    let path = dir.join("zoo.cfg");
    fs::write(&path, lines).expect("a temporary file can be written");
    path.to_str().expect("temporary names are UTF-8").to_owned()
}

#[test]
fn help_has_examples_environment_and_exit_codes() {
    let output = ostler(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for part in [
        "serve",
        "check",
        "dev --servers 3",
        "reconfig",
        "Examples:",
        "Signals:",
        "OSTLER_LOG",
        "Exit status:",
        "--listen",
        "--data-dir",
        "--id",
    ] {
        assert!(help.contains(part), "{part} is missing in\n{help}");
    }
    let short = ostler(&["-h"]);
    assert!(text(&short.stdout).lines().count() < 40, "{}", text(&short.stdout));
}

#[test]
fn version_names_the_program_and_the_protocol() {
    let output = ostler(&["--version"]);
    let expected = format!(
        "ostler {} (speaks the client protocol of Apache ZooKeeper 3.9)\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), expected.as_str()));
}

#[test]
fn print_config_shows_the_settings_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "dataDir=/d\nclientPort=2181\nadmin.serverPort=8081\n");
    let output = ostler(&["serve", &path, "--print-config", "--listen", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["settings"]["dataDir"], "/d");
    assert_eq!(shown["settings"]["clientPort"], 9);
    assert_eq!(shown["settings"]["maxClientCnxns"], 60);
    assert_eq!(
        shown["notes"][0],
        format!(
            "{path}:3: admin.serverPort has no effect: there is no admin HTTP server yet: nothing listens"
        )
    );

    let bare = ostler(&["--print-config", "--data-dir", "/x"]);
    let shown: serde_json::Value = serde_json::from_slice(&bare.stdout).unwrap();
    assert_eq!((&shown["settings"]["dataDir"], &shown["notes"]), (&"/x".into(), &serde_json::json!([])));

    let arguments = ostler(&["serve", "2181", "/d", "2000", "--print-config"]);
    let shown: serde_json::Value = serde_json::from_slice(&arguments.stdout).unwrap();
    assert_eq!(shown["settings"]["maxSessionTimeout"], 40_000);
}

#[test]
fn a_server_of_an_ensemble_is_told_which_one_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let lines = format!(
        "dataDir={}\nclientPort=2181\nserver.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\n",
        dir.path().display()
    );
    let path = file(dir.path(), &lines);
    let shown = |arguments: &[&str]| {
        let output = ostler(&[&["serve", &path, "--print-config"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["settings"].clone()
    };
    assert_eq!(shown(&["--id", "3"])["myid"], 3);
    let nobody = ostler(&["serve", &path]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody.stderr).contains("/myid is missing"), "{}", text(&nobody.stderr));
    fs::write(dir.path().join("myid"), "2\n").unwrap();
    assert_eq!(shown(&[])["myid"], 2);
    assert_eq!(ostler(&["serve", &path, "--id", "3"]).status.code(), Some(2), "the data is another's");
}

#[test]
fn a_bad_file_is_a_usage_error_that_names_every_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "clientPort=2181\nticktime=2000\nforceSync=no\n");
    let output = ostler(&["serve", &path]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
    assert_eq!(
        text(&output.stderr),
        format!(
            "ostler: {path}: 3 problems\n  {path}:2: ticktime: unknown setting; the nearest known one is tickTime\n  \
             {path}:3: forceSync=no is refused: acknowledged writes would be lost when the machine loses power; \
             remove it; use a throw-away dataDir on a memory file system where durability does not matter\n  \
             {path}: dataDir is missing: expected dataDir=/path/to/data, where everything acknowledged is kept\n"
        )
    );
    assert_eq!(ostler(&["serve", "/nonexistent/zoo.cfg"]).status.code(), Some(2));
}

#[test]
fn wrong_arguments_are_usage_errors() {
    for arguments in [
        &["zoo.cfg"][..],
        &["--no-such-option"],
        &["--listen", "nowhere"],
        &["--log-level", "debgu"],
        &["serve", "1", "2", "3", "4", "5"],
        &["check"],
        &["--id", "255"],
        &["dev", "--servers", "0"],
        &["dev", "--set", "dataDir=/x"],
        &["reconfig"],
    ] {
        let output = ostler(arguments);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{arguments:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{}", text(&output.stderr));
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
    let by_environment = command.args(["--print-config"]).env("OSTLER_LOG", "loud").output().unwrap();
    assert_eq!(by_environment.status.code(), Some(2));
}
