//! Servers killed, paused and restarted under load, with `ostler bench failover` as the judge. Many rounds of it:
//! docs/testing.md.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server::{command, run, text, wait_for};

/// `ostler dev --json`, which starts servers again that end, with its output in a file. Its servers end with it.
struct Dev {
    child: Child,
    news: std::path::PathBuf,
}

impl Dev {
    fn start(dir: &Path, settings: &[&str]) -> Dev {
        let news = dir.join("news");
        let mut dev = command();
        dev.args(["dev", "--json", "--servers", "3", "--dir"]).arg(dir.join("ensemble"));
        for setting in settings {
            dev.args(["--set", setting]);
        }
        let child = dev.stdout(File::create(&news).unwrap()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the ensemble", || std::fs::read_to_string(&news).unwrap().contains('\n'));
        Dev { child, news }
    }

    /// Runs the benchmark; its totals. Whatever is done to servers, promises are kept.
    #[track_caller]
    fn failover(&self, arguments: &[&str]) -> Value {
        let news = self.news.to_str().unwrap();
        let fixed = ["bench", "failover", "--json", "--interval-ms", "10", "--dev-json", news];
        let output = run(&[&fixed, arguments].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(output.status.code(), Some(0), "{}{report:#}", text(&output.stderr));
        let total = &report["total"];
        for promise in ["sessions_lost", "missing", "repeated", "out_of_order", "ephemerals_lost"] {
            assert_eq!(total[promise], 0, "{promise}: {total:#}");
        }
        assert_eq!(total["servers_that_differ"], 0, "{total:#}");
        assert!(total["acknowledged"].as_u64().unwrap() > 0);
        total.clone()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Long enough that a busy machine holds an election before connections must close.
const UNHURRIED: &str = "ostler.tickMs=100";

#[track_caller]
fn unnoticed(total: &Value) {
    assert_eq!((&total["failed_operations"], &total["disconnects"]), (&0.into(), &0.into()), "{total:#}");
}

#[test]
fn clients_of_other_servers_do_not_notice_that_the_leader_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &[UNHURRIED, "snapCount=500", "preAllocSize=64"]);
    unnoticed(&dev.failover(&["--action", "kill-leader", "--rounds", "3", "--session-timeout-ms", "30000"]));
}

#[test]
fn clients_of_other_servers_do_not_notice_a_rolling_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &[UNHURRIED]);
    unnoticed(&dev.failover(&["--action", "restart-each", "--rounds", "1", "--session-timeout-ms", "30000"]));
}

#[test]
fn a_leader_that_is_paused_for_longer_than_the_session_timeout_breaks_no_promise() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &["tickTime=500"]);
    let arguments =
        ["--action", "stop-leader", "--rounds", "1", "--stop", "5", "--session-timeout-ms", "4000"];
    dev.failover(&arguments);
}

#[test]
fn all_servers_killed_at_once_come_back_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &["snapCount=500", "preAllocSize=64"]);
    dev.failover(&["--action", "kill-all", "--rounds", "2"]);
}
