//! Plays golden exchanges to a running server and says which differ.
//!
//!     cargo run -p ostler-testkit --example replay -- [--zookeeper] HOST:PORT FILE...
//!
//! With `--zookeeper` the answers recorded from Apache ZooKeeper are expected everywhere, without it Ostler's.
//! The exit status is 0 if all of them passed, 1 if one failed, 2 if the command line is wrong.

use std::net::ToSocketAddrs;
use std::process::ExitCode;

use ostler_testkit::golden::{self, Report, Side};

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let side = match arguments.first().map(String::as_str) {
        Some("--zookeeper") => {
            arguments.remove(0);
            Side::ZooKeeper
        }
        _ => Side::Ostler,
    };
    let [address, files @ ..] = arguments.as_slice() else { return usage("which server?") };
    let address = match address.to_socket_addrs().map(|mut addresses| addresses.next()) {
        Ok(Some(address)) => address,
        Ok(None) => return usage(&format!("{address} has no address")),
        Err(error) => return usage(&format!("{address}: {error}")),
    };
    if files.is_empty() {
        return usage("which files?");
    }
    let mut total = Report::default();
    let mut failures = 0;
    for file in files {
        let played = std::fs::read_to_string(file)
            .map_err(|error| error.to_string())
            .and_then(|text| golden::replay_as(side, address, &text).map_err(|failure| failure.to_string()));
        match played {
            Ok(report) => {
                total += report;
                println!("ok {file}");
            }
            Err(failure) => {
                failures += 1;
                println!("FAIL {file} {failure}");
            }
        }
    }
    let passed = files.len() - failures;
    println!("{passed} of {} scenarios passed, {} frames compared", files.len(), total.frames_compared);
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("replay: {problem}\nusage: replay [--zookeeper] HOST:PORT FILE...");
    ExitCode::from(2)
}
