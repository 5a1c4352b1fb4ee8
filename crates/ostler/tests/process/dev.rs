//! `ostler dev`: servers as processes of their own, looked after and never left behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use ostler_client::{Client, ConnectOptions};
use ostler_types::{CreateMode, open_acl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server::{PATIENCE, block_on, command, run, text, wait_for};

/// A running `ostler dev --json`, stopped with the test.
struct Dev {
    child: Child,
    news: BufReader<ChildStdout>,
}

impl Dev {
    fn start(dir: &Path, arguments: &[&str]) -> Dev {
        let mut command = command();
        command.args(["dev", "--json", "--dir"]).arg(dir).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let news = BufReader::new(child.stdout.take().unwrap());
        Dev { child, news }
    }

    /// The next line it prints.
    fn news(&mut self) -> Value {
        let mut line = String::new();
        self.news.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Its servers follow: the pipes to them end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn client(address: &str) -> Client {
    let options = ConnectOptions { connect_timeout: PATIENCE, ..ConnectOptions::default() };
    Client::connect(address, &options).await.unwrap().0
}

fn pid(server: &Value) -> Pid {
    Pid::from_raw(server["pid"].as_i64().unwrap().try_into().unwrap()).unwrap()
}

#[test]
fn a_server_that_is_killed_comes_back_and_all_stop_when_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path(), &["--servers", "1", "--set", "tickTime=500"]);
    let all = dev.news();
    let server = &all["servers"][0];
    let address = all["connection_string"].as_str().unwrap();
    assert_eq!((&server["id"], &server["client_address"]), (&1.into(), &address.into()));
    block_on(async {
        let client = client(address).await;
        client.create("/kept", b"", &open_acl(), CreateMode::Persistent).await.unwrap();
    });

    kill_process(pid(server), Signal::KILL).unwrap();
    let ended = dev.news();
    assert_eq!((&ended["event"], &ended["pid"]), (&"ended".into(), &server["pid"]));
    assert_eq!(ended["restarts"], true);
    let (started, serving) = (dev.news(), dev.news());
    assert_eq!((&started["event"], &serving["event"]), (&"started".into(), &"serving".into()));
    assert!(started["pid"] == serving["pid"] && started["pid"] != server["pid"]);
    block_on(async {
        assert!(client(address).await.exists("/kept", false).await.unwrap().is_some());
    });

    dev.signal(Signal::TERM);
    assert_eq!(dev.child.wait().unwrap().code(), Some(0));
    let log = std::fs::read_to_string(server["log_file"].as_str().unwrap()).unwrap();
    assert!(log.trim_end().ends_with("stopped"), "{log}");
}

#[test]
fn a_server_is_left_down_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path(), &["--servers", "1", "--no-restart"]);
    kill_process(pid(&dev.news()["servers"][0]), Signal::KILL).unwrap();
    assert_eq!(dev.news()["restarts"], false);
    assert_eq!(dev.child.wait().unwrap().code(), Some(1), "no server is left");
}

#[test]
fn no_server_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path(), &["--servers", "1"]);
    let log = dev.news()["servers"][0]["log_file"].as_str().unwrap().to_owned();
    dev.signal(Signal::KILL);
    dev.child.wait().unwrap();
    let ended = || std::fs::read_to_string(&log).unwrap().trim_end().ends_with("stopped");
    wait_for("the server to stop", ended);
    assert!(std::fs::read_to_string(&log).unwrap().contains("standard input has ended"));
}

#[test]
fn a_server_that_cannot_start_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let output = run(&["dev", "--servers", "1", "--set", "tickTime=never", "--dir", dir]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("[1] ") && message.contains("tickTime=never: expected a whole number"),
        "{message}"
    );
    assert!(message.contains("server 1 did not start (exit status: 2)"), "{message}");
}

/// What it writes for each of several servers is what this program reads.
#[test]
fn every_server_gets_a_configuration_of_the_same_ensemble() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--servers", "3", "--observers", "1", "--set", "snapCount=77"];
    let dev = Dev::start(dir.path(), &arguments);
    wait_for("the plan", || dir.path().join("ensemble.json").exists());
    let configuration = |id: u8| {
        let file = dir.path().join(format!("server-{id}/zoo.cfg"));
        let output = run(&["serve", file.to_str().unwrap(), "--print-config"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["settings"].clone()
    };
    let first = configuration(1);
    for id in 1..=4 {
        let settings = configuration(id);
        assert_eq!((&settings["myid"], &settings["snapCount"]), (&id.into(), &77.into()));
        let role = if id == 4 { "observer" } else { "participant" };
        assert_eq!(settings["peerType"], role);
        for other in 1..=4 {
            let line = format!("server.{other}");
            assert!(settings[&line].is_string() && settings[&line] == first[&line], "{line}");
        }
        let port = settings["clientPort"].to_string();
        assert!(first[format!("server.{id}")].as_str().unwrap().ends_with(&format!(";127.0.0.1:{port}")));
    }
    drop(dev);
}
