//! What is printed: for people, or a line of JSON each for programs.

use std::io::Write;
use std::process::ExitStatus;

use serde_json::{Value, json};

use super::plan::{Member, Plan};

/// Where news of the ensemble goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) json: bool,
}

/// What becomes of a server that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is started again after a second.
    Again,
    /// It is left as it is, as was asked for.
    Left,
    /// It is left as it is: it would end again.
    Hopeless,
}

impl Output {
    /// All servers serve. `pids` is in the order of the members.
    pub(super) fn serving(self, plan: &Plan, pids: &[u32], removed: bool) {
        if self.json {
            let servers = plan.members.iter().zip(pids).map(|(member, pid)| describe(plan, member, *pid));
            print_json(&json!({
                "connection_string": plan.connection_string(),
                "dir": plan.dir,
                "servers": servers.collect::<Vec<_>>(),
            }));
            return;
        }
        let mut text = match plan.members.len() {
            1 => "One server is serving\n".to_owned(),
            count => format!("An ensemble of {count} servers is serving\n"),
        };
        for (member, pid) in plan.members.iter().zip(pids) {
            let Member { id, observer, .. } = member;
            let role = if *observer { ", observer" } else { "" };
            text += &format!("  server {id}: {} (pid {pid}{role})\n", member.client_address());
        }
        let fate = if removed { " (removed at the end)" } else { "" };
        text += &format!(
            "  files:    {}{fate}\n  connect:  any ZooKeeper client, connection string {}\n  \
             stop:     Ctrl-C\n",
            plan.dir.display(),
            plan.connection_string()
        );
        print(&text);
    }

    /// A server that had ended serves again.
    pub(super) fn serving_again(self, id: u8, pid: u32) {
        match self.json {
            true => print_json(&json!({ "event": "serving", "id": id, "pid": pid })),
            false => print(&format!("server {id} serves again (pid {pid})\n")),
        }
    }

    pub(super) fn started_again(self, id: u8, pid: u32) {
        match self.json {
            true => print_json(&json!({ "event": "started", "id": id, "pid": pid })),
            false => print(&format!("server {id} is started again (pid {pid})\n")),
        }
    }

    pub(super) fn ended(self, id: u8, pid: u32, status: ExitStatus, then: Then) {
        if self.json {
            let restarts = then == Then::Again;
            let event = json!({
                "event": "ended", "id": id, "pid": pid, "status": status.to_string(), "restarts": restarts,
            });
            return print_json(&event);
        }
        let then = match then {
            Then::Again => "; it is started again in a second",
            Then::Left => "",
            Then::Hopeless => "; it is not started again, its log says why",
        };
        print(&format!("server {id} (pid {pid}) has ended: {status}{then}\n"));
    }
}

/// A line that a server has logged, on standard error.
pub(super) fn server_line(id: u8, line: &[u8]) {
    let mut out = format!("[{id}] ").into_bytes();
    out.extend_from_slice(line);
    // As below.
    let _ = std::io::stderr().write_all(&out);
}

fn describe(plan: &Plan, member: &Member, pid: u32) -> Value {
    let Member { id, observer: _, client_port: _, quorum_port, election_port: _ } = member;
    json!({
        "id": id,
        "role": member.role().to_string(),
        "pid": pid,
        "client_address": member.client_address(),
        "quorum_port": quorum_port,
        "data_dir": plan.data_dir(member),
        "config_file": plan.config_file(member),
        "log_file": plan.log_file(member),
    })
}

fn print_json(value: &Value) {
    print(&format!("{value}\n"));
}

fn print(text: &str) {
    // Nobody may be reading; the ensemble goes on all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}
