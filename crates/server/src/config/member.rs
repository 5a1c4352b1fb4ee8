//! One `server.N` line: `host:quorumPort:electionPort[:role][|...][;[clientHost:]clientPort]`.

use super::ListenAddress;

/// What one server needs to know of such a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) role: Role,
    /// Where it serves clients, if the line says so. Without a host that is every interface.
    pub(super) client: Option<ListenAddress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Participant,
    Observer,
}

/// What a line should look like, for messages.
pub(super) const EXPECTED: &str =
    "host:quorumPort:electionPort[:participant|:observer][;[clientHost:]clientPort]";

/// `None` if `value` is not such a line.
pub(super) fn parse(value: &str) -> Option<Member> {
    let (servers, client) = match value.split_once(';') {
        None => (value, None),
        Some((servers, client)) => (servers, Some(client_address(client.trim())?)),
    };
    let mut role = None;
    for server in servers.split('|') {
        let stated = server_address(server.trim())?;
        if role.is_some_and(|role| role != stated) {
            return None;
        }
        role = Some(stated);
    }
    Some(Member { role: role?, client })
}

fn client_address(text: &str) -> Option<ListenAddress> {
    let address = ListenAddress::parse(text)?;
    let everywhere = matches!(address.host.as_deref(), Some("0.0.0.0" | "::"));
    let host = address.host.filter(|_| !everywhere);
    (address.port != 0).then_some(ListenAddress { host, port: address.port })
}

fn server_address(text: &str) -> Option<Role> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            (host, rest.strip_prefix(':')?)
        }
        None => text.split_once(':')?,
    };
    let mut parts = rest.split(':');
    let quorum_port = port(parts.next()?)?;
    let election_port = port(parts.next()?)?;
    let role = match parts.next().map(str::to_ascii_lowercase).as_deref() {
        None | Some("participant") => Role::Participant,
        Some("observer") => Role::Observer,
        Some(_) => return None,
    };
    let whole = !host.is_empty() && parts.next().is_none() && quorum_port != election_port;
    whole.then_some(role)
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_shape() {
        let client = |text: &str| ListenAddress::parse(text);
        for (line, role, address) in [
            ("zoo1:2888:3888", Role::Participant, None),
            ("zoo1:2888:3888:participant;2181", Role::Participant, client("*:2181")),
            ("zoo1:2888:3888:observer;127.0.0.1:2181", Role::Observer, client("127.0.0.1:2181")),
            ("[::1]:2888:3888;[::1]:2181", Role::Participant, client("[::1]:2181")),
            ("localhost:2888:3888;0.0.0.0:2181", Role::Participant, client("*:2181")),
            ("a:2888:3888|b:2889:3889 ; 2181", Role::Participant, client("*:2181")),
        ] {
            assert_eq!(parse(line), Some(Member { role, client: address }), "{line}");
        }
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
            "a:1:2|b:3",
            "a:1:2|b:3:4:observer",
            "a:+1:2",
            "a:1:2;x:y",
        ] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
