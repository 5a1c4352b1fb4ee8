//! One server of an ensemble as configuration files, `reconfig` and `/zookeeper/config` write it (operations,
//! "Membership").

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr};

/// Whether a server votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Votes: a voter of the log.
    Participant,
    /// Serves clients and never votes: a learner of the log.
    Observer,
}

/// Where the other servers find one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// Host name or address literal (IPv6 without brackets). Not empty.
    pub host: String,
    /// Port for the traffic between servers. Not 0, and not `election_port`.
    pub quorum_port: u16,
    /// Port of ZooKeeper's elections, which Ostler does not open. Not 0.
    pub election_port: u16,
}

/// Where a server listens for clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress {
    /// Host name or address literal (IPv6 without brackets); `None` is every interface (`0.0.0.0`).
    pub host: Option<String>,
    /// Not 0.
    pub port: u16,
}

/// What follows `server.N=`: `host:quorumPort:electionPort[:role][|...][;[clientHost:]clientPort]`.
///
/// ```
/// use ostler_types::member::ServerSpec;
///
/// let spec = ServerSpec::parse("127.0.0.1:2791:2792;2793").unwrap();
/// assert_eq!(spec.to_string(), "127.0.0.1:2791:2792:participant;0.0.0.0:2793");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerSpec {
    /// At least one.
    pub addresses: Vec<PeerAddress>,
    /// Participant unless stated.
    pub role: Role,
    /// Where it serves clients, if the line says so.
    pub client: Option<ClientAddress>,
}

impl ServerSpec {
    /// What a line should look like, for messages.
    pub const EXPECTED: &str =
        "host:quorumPort:electionPort[:participant|:observer][;[clientHost:]clientPort]";

    /// `None` if `text` is not of that shape, a port is 0 or above 65535, the two ports of an address are the
    /// same, or its addresses state different roles.
    pub fn parse(text: &str) -> Option<ServerSpec> {
        let (servers, client) = match text.split_once(';') {
            None => (text, None),
            Some((servers, client)) => (servers, Some(client_address(client.trim())?)),
        };
        let mut addresses = Vec::new();
        let mut role = None;
        for server in servers.split('|') {
            let (address, stated) = peer_address(server.trim())?;
            if role.is_some_and(|role| role != stated) {
                return None;
            }
            role = Some(stated);
            addresses.push(address);
        }
        Some(ServerSpec { addresses, role: role?, client })
    }

    /// Whether it votes.
    pub fn votes(&self) -> bool {
        self.role == Role::Participant
    }
}

/// `server.N=...` lines in ascending order of N and `version=` in hexadecimal without a newline after it: the
/// data of `/zookeeper/config`. ZooKeeper's order is that of a hash table, which is the same for ids below 16.
pub fn config_text<'a>(members: impl IntoIterator<Item = (u8, &'a ServerSpec)>, version: i64) -> String {
    let mut text = String::new();
    for (server, spec) in members {
        writeln!(text, "server.{server}={spec}").expect("a String takes everything");
    }
    write!(text, "version={version:x}").expect("a String takes everything");
    text
}

impl fmt::Display for ServerSpec {
    /// As ZooKeeper prints it: addresses sorted by host, the role always, the client's host always.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut addresses: Vec<_> = self.addresses.iter().collect();
        addresses.sort_by(|a, b| a.host.cmp(&b.host));
        for (at, address) in addresses.into_iter().enumerate() {
            if at > 0 {
                f.write_char('|')?;
            }
            put_host(f, &address.host)?;
            write!(f, ":{}:{}", address.quorum_port, address.election_port)?;
        }
        write!(f, ":{}", self.role)?;
        match &self.client {
            None => Ok(()),
            Some(client) => write!(f, ";{client}"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Participant => "participant",
            Role::Observer => "observer",
        })
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        put_host(f, self.host.as_deref().unwrap_or("0.0.0.0"))?;
        write!(f, ":{}", self.port)
    }
}

/// Names as they are; IPv6 as Java prints it, without abbreviating zeros and in brackets.
fn put_host(f: &mut fmt::Formatter<'_>, host: &str) -> fmt::Result {
    match host.parse::<Ipv6Addr>() {
        Ok(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => write!(f, "{v4}"),
            None => {
                let groups = v6.segments().map(|group| format!("{group:x}"));
                write!(f, "[{}]", groups.join(":"))
            }
        },
        Err(_) if host.contains(':') => write!(f, "[{host}]"),
        Err(_) => f.write_str(host),
    }
}

fn client_address(text: &str) -> Option<ClientAddress> {
    let (host, port_text) = match text.rsplit_once(':') {
        None => (None, text),
        Some((host, port)) => (Some(bare_host(host)?), port),
    };
    let everywhere =
        |host: &&str| matches!(host.parse::<IpAddr>(), Ok(IpAddr::V4(v4)) if v4.is_unspecified());
    let host = host.filter(|host| *host != "*" && !everywhere(host)).map(str::to_owned);
    Some(ClientAddress { host, port: port(port_text)? })
}

fn peer_address(text: &str) -> Option<(PeerAddress, Role)> {
    let (host, rest) = match text.find(']') {
        Some(end) => (&text[..=end], text[end + 1..].strip_prefix(':')?),
        None => text.split_once(':')?,
    };
    let mut parts = rest.split(':');
    let quorum_port = port(parts.next()?)?;
    let election_port = port(parts.next()?)?;
    let role = match parts.next().map(|role| role.trim().to_ascii_lowercase()).as_deref() {
        None | Some("participant") => Role::Participant,
        Some("observer") => Role::Observer,
        Some(_) => return None,
    };
    if parts.next().is_some() || quorum_port == election_port {
        return None;
    }
    let host = bare_host(host)?.to_owned();
    Some((PeerAddress { host, quorum_port, election_port }, role))
}

/// A host without the brackets of an IPv6 address; nothing that would make a line of its own, or none at all.
fn bare_host(text: &str) -> Option<&str> {
    let bare = text.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(text);
    let odd = |c: char| c.is_whitespace() || c.is_control() || "[]/=,;|#\\".contains(c);
    let whole = !host.is_empty() && !host.contains(odd) && (bare.is_some() || !host.contains(':'));
    whole.then_some(host)
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(host: Option<&str>, port: u16) -> Option<ClientAddress> {
        Some(ClientAddress { host: host.map(str::to_owned), port })
    }

    #[test]
    fn lines_of_every_shape() {
        use Role::{Observer, Participant};
        for (line, role, address) in [
            ("zoo1:2888:3888", Participant, None),
            ("zoo1:2888:3888:participant;2181", Participant, client(None, 2181)),
            ("zoo1:2888:3888:observer;127.0.0.1:2181", Observer, client(Some("127.0.0.1"), 2181)),
            ("[::1]:2888:3888;[::1]:2181", Participant, client(Some("::1"), 2181)),
            ("localhost:2888:3888;0.0.0.0:2181", Participant, client(None, 2181)),
            ("localhost:2888:3888;*:2181", Participant, client(None, 2181)),
            ("a:2888:3888|b:2889:3889 ; 2181", Participant, client(None, 2181)),
        ] {
            let spec = ServerSpec::parse(line).expect(line);
            assert_eq!((spec.role, &spec.client), (role, &address), "{line}");
            assert_eq!(ServerSpec::parse(&spec.to_string()).unwrap().to_string(), spec.to_string());
        }
        let two = ServerSpec::parse("a:1:2|b:3:4:participant").expect("two addresses");
        let address = |host: &str, quorum_port, election_port| PeerAddress {
            host: host.to_owned(),
            quorum_port,
            election_port,
        };
        assert_eq!(two.addresses, [address("a", 1, 2), address("b", 3, 4)]);
    }

    #[test]
    fn other_lines_are_not_members() {
        for line in [
            "",
            "a",
            "a:1",
            "a:1:1",
            "a:0:2",
            "a:1:2:leader",
            "a:1:2:participant:3",
            ":1:2",
            "a:1:2;",
            "a:1:2;0",
            "a:1:65536",
            "[::1:1:2",
            "[]:1:2",
            "::1:1:2",
            "a:1:2|b:3",
            "a:1:2|b:3:4:observer",
            "a:+1:2",
            "a:1:2;x:y",
            "a:1:2;:1",
            "a:1:2;1;2",
            "a\nserver.2=b:1:2",
            "a b:1:2",
        ] {
            assert_eq!(ServerSpec::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn text_is_zookeepers() {
        for (line, printed) in [
            ("127.0.0.1:2791:2792;2793", "127.0.0.1:2791:2792:participant;0.0.0.0:2793"),
            ("zoo1:2888:3888:OBSERVER", "zoo1:2888:3888:observer"),
            ("[fe80::1]:1:2;[::]:3", "[fe80:0:0:0:0:0:0:1]:1:2:participant;[0:0:0:0:0:0:0:0]:3"),
            ("[::ffff:10.0.0.1]:1:2", "10.0.0.1:1:2:participant"),
            ("[fe80::1%eth0]:1:2", "[fe80::1%eth0]:1:2:participant"),
            ("b:3:4|a:1:2;h:5", "a:1:2|b:3:4:participant;h:5"),
        ] {
            assert_eq!(ServerSpec::parse(line).expect(line).to_string(), printed);
        }
    }

    #[test]
    fn config_text_lists_members_and_version() {
        let spec = |text| ServerSpec::parse(text).unwrap();
        let (one, two) = (spec("h1:1:2;3"), spec("h2:1:2:observer;127.0.0.1:3"));
        assert_eq!(
            config_text([(1, &one), (12, &two)], 0x1_0000_00ab),
            "server.1=h1:1:2:participant;0.0.0.0:3\nserver.12=h2:1:2:observer;127.0.0.1:3\nversion=1000000ab"
        );
    }
}
