//! What is known while a reconfiguration is under way: how far the servers are that join.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use ostler_types::member::ServerSpec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::args::Change;

/// Pause between two reports.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a server may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most bytes of an answer that are read.
const MAX_ANSWER_BYTES: u64 = 1 << 16;

/// Waits for `work`, and says on standard error how the joining servers are meanwhile.
pub(super) async fn while_waiting<T>(change: &Change, work: impl Future<Output = T>) -> T {
    let joining = joining(change);
    let mut work = pin!(work);
    let started = Instant::now();
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = report(&joining, started) => {}
        }
    }
}

/// One line, after a pause.
async fn report(joining: &[(String, String)], started: Instant) {
    sleep(PAUSE).await;
    let mut line = format!("waiting for {} s", started.elapsed().as_secs());
    for (id, address) in joining {
        line += &format!("; server {id} ({address}): {}", state(address).await);
    }
    eprintln!("{line}");
}

/// Number and client address of the servers that the change brings or keeps.
fn joining(change: &Change) -> Vec<(String, String)> {
    let lines = change.joining.iter().chain(&change.members).flat_map(|text| text.split(','));
    let server = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let spec = ServerSpec::parse(value)?;
        let client = spec.client?;
        let host = client.host.unwrap_or_else(|| spec.addresses[0].host.clone());
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Some((name.strip_prefix("server.")?.to_owned(), format!("{host}:{}", client.port)))
    };
    lines.filter_map(server).collect()
}

/// What a server says of itself.
async fn state(address: &str) -> String {
    let ask = async {
        let address: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
        let mut socket = TcpStream::connect(address.as_slice()).await?;
        socket.write_all(b"srvr").await?;
        let mut answer = Vec::new();
        socket.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    match timeout(PATIENCE, ask).await {
        Err(_) => "does not answer".to_owned(),
        Ok(Err(error)) => format!("cannot be reached ({error})"),
        Ok(Ok(answer)) => describe(&answer),
    }
}

fn describe(answer: &str) -> String {
    let value = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match (value("Mode:"), value("Zxid:"), value("Node count:")) {
        (Some(mode), Some(zxid), Some(nodes)) => format!("{mode}, zxid {zxid}, {nodes} znodes"),
        _ => "is up and does not serve yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_servers_and_what_they_say() {
        let change = Change {
            joining: Some("server.4=d:1:2:participant;0.0.0.0:3,server.5=[::1]:1:2:observer;h:3".to_owned()),
            leaving: Some("1".to_owned()),
            members: None,
        };
        let pair = |id: &str, address: &str| (id.to_owned(), address.to_owned());
        assert_eq!(joining(&change), [pair("4", "d:3"), pair("5", "h:3")]);
        let answer = "Zookeeper version: 3\nZxid: 0x10\nMode: follower\nNode count: 5\n";
        assert_eq!(describe(answer), "follower, zxid 0x10, 5 znodes");
        assert_eq!(describe("This ZooKeeper instance is not"), "is up and does not serve yet");
    }
}
