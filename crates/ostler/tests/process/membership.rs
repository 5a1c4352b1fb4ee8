//! `ostler config` and `ostler reconfig`: refusals name the remedy.

use crate::server::{Server, run, text};

/// Runs a command that must fail; what it says.
#[track_caller]
fn failure(arguments: &[&str]) -> String {
    let output = run(arguments);
    let message = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{message}");
    message
}

#[test]
fn a_server_without_an_ensemble_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "");
    let address = server.address.to_string();
    // The first one is nobody's.
    let servers = format!("127.0.0.1:1,{address}");
    let message = failure(&["config", "--server", &servers]);
    assert!(message.contains("no server.N lines"), "{message}");
    let message = failure(&["reconfig", "--server", &servers, "--remove", "2"]);
    assert!(message.contains("refused: ") && message.contains("reconfigEnabled=true"), "{message}");
    server.stop();
}

#[test]
fn servers_that_cannot_be_reached_are_named() {
    let message = failure(&["config", "--server", "127.0.0.1:1,127.0.0.1:2"]);
    assert!(message.contains("\n  127.0.0.1:1: ") && message.contains("\n  127.0.0.1:2: "), "{message}");
}

#[test]
fn an_identity_comes_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth");
    std::fs::write(&file, "nobody\n").unwrap();
    let message = failure(&["reconfig", "--remove", "2", "--auth-file", file.to_str().unwrap()]);
    assert!(
        message.contains("the first line is not USER:PASSWORD") && !message.contains("nobody"),
        "{message}"
    );
}
