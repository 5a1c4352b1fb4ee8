//! The first message each way on a connection between servers; see `docs/peer-protocol.md`.
//!
//! Both ways it is the eight bytes of [`MAGIC`] and one frame. The dialing server sends a [`Hello`]; the other one
//! answers with a Hello of its own (an *answer*) or a [`Refusal`]. What comes before the texts has the same place in
//! every version of the protocol, and a reader ignores what follows the fields it knows, so that servers of any two
//! releases can find out whether they understand each other.

use std::fmt;

/// What every connection between servers begins with, both ways.
pub(crate) const MAGIC: &[u8; 8] = b"OSTLRPER";
/// The peer protocol of this release.
pub const PROTOCOL: Versions = Versions { oldest: 1, newest: 1 };
/// The longest first frame, in bytes.
pub(crate) const MAX_GREETING_BYTES: usize = 64 << 10;
/// The longest list of members in a Hello, in bytes. 254 servers with long names need half of it.
pub const MAX_MEMBERS_BYTES: usize = 48 << 10;
const MAX_SOFTWARE_BYTES: usize = 255;
const MAX_REASON_BYTES: usize = 2 << 10;
/// Bytes of a Hello before its texts.
const FIXED: usize = 60;

/// A range of versions of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest one that is understood.
    pub oldest: u16,
    /// The newest one.
    pub newest: u16,
}

impl Versions {
    /// The newest version that both understand.
    pub fn common(self, other: Versions) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "{}", self.newest)
        } else {
            write!(f, "{} to {}", self.oldest, self.newest)
        }
    }
}

/// Who a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Myself {
    /// The cluster it belongs to; `None` while it is *unborn*: it has a node id and nothing else. Never 0.
    pub cluster_id: Option<u64>,
    /// Its disk.
    pub node_id: u64,
    /// Its `myid`, 1 to 254.
    pub server_id: u8,
    /// Drawn at each start of the process, to tell one run from the next.
    pub incarnation: u64,
    /// The last entry of its log when the process started; 0 if there was none.
    pub last_index: u64,
    /// That entry's term.
    pub last_term: u64,
    /// The feature levels it can apply, of whatever the owner counts so.
    pub features: Versions,
    /// The voters it is configured with, in a form that is equal when they are; at most
    /// [`MAX_MEMBERS_BYTES`] bytes.
    pub members: String,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Frames from the server that dials to the one that accepts.
    Link,
    /// One snapshot file for the server that dials.
    Snapshot,
}

/// What a server that introduces itself is to the one it has reached. Whoever keeps the membership says it, through
/// [`Membership`](super::Membership).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The server reached belongs to no cluster itself.
    Unborn,
    /// A member of the cluster, or one that this server must listen to without knowing better.
    Member,
    /// Its server id is a member's, but under another node id: it may ask to take that one's place.
    Replaceable {
        /// The member's node id.
        node_id: u64,
    },
    /// Neither its server id nor its node id is known here.
    Unknown,
    /// It has been in this cluster and is not among its nodes after this entry of the log. If it does not know that
    /// entry yet, it has been removed.
    NotMember {
        /// The last entry that the server reached has applied.
        index: u64,
    },
    /// It must not be talked to; the text says why and what to do, as a sentence without a full stop.
    Refused(RefusalCode, String),
}

/// A server's introduction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who speaks.
    pub from: Myself,
    /// The versions of the peer protocol it speaks.
    pub versions: Versions,
    /// The server it believes to have reached.
    pub to_server_id: u8,
    /// What the connection is for.
    pub purpose: Purpose,
    /// Name and version of the program, for people.
    pub software: String,
}

/// Why a server does not talk to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// They belong to different clusters.
    OtherCluster,
    /// No version of the protocol is common to them.
    Versions,
    /// No feature level is common to them.
    Features,
    /// The one with this server id is another disk and connected.
    OtherDisk,
    /// The node is no longer a member.
    NotAMember,
    /// A server has reached itself.
    Itself,
    /// Another server is at this address.
    OtherServer,
    /// Two processes run with one disk's identity.
    Copied,
    /// Two servers have the same server id.
    SameServerId,
    /// The owner's reason, such as a log that has lost entries.
    Data,
    /// Unborn servers, or one unborn and one not, have no snapshots for each other.
    Unborn,
    /// A code that this release does not know.
    Other(u8),
}

/// An answer instead of a Hello, after which the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The reason, for programs.
    pub code: RefusalCode,
    /// The reason and the remedy, for people, in words that are right on both sides.
    pub reason: String,
}

/// The first message of either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    Hello(Hello),
    /// With the version chosen, and what the dialing server is to this one.
    Answer {
        hello: Hello,
        version: u16,
        standing: Standing,
    },
    Refusal(Refusal),
}

/// The bytes are no greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its introduction makes no sense: {0}")]
pub struct BadGreeting(&'static str);

impl RefusalCode {
    fn to_byte(self) -> u8 {
        match self {
            RefusalCode::OtherCluster => 1,
            RefusalCode::Versions => 2,
            RefusalCode::Features => 3,
            RefusalCode::OtherDisk => 4,
            RefusalCode::NotAMember => 5,
            RefusalCode::Itself => 6,
            RefusalCode::OtherServer => 7,
            RefusalCode::Copied => 8,
            RefusalCode::SameServerId => 9,
            RefusalCode::Data => 10,
            RefusalCode::Unborn => 11,
            RefusalCode::Other(byte) => byte,
        }
    }

    fn from_byte(byte: u8) -> RefusalCode {
        match byte {
            1 => RefusalCode::OtherCluster,
            2 => RefusalCode::Versions,
            3 => RefusalCode::Features,
            4 => RefusalCode::OtherDisk,
            5 => RefusalCode::NotAMember,
            6 => RefusalCode::Itself,
            7 => RefusalCode::OtherServer,
            8 => RefusalCode::Copied,
            9 => RefusalCode::SameServerId,
            10 => RefusalCode::Data,
            11 => RefusalCode::Unborn,
            other => RefusalCode::Other(other),
        }
    }
}

impl Greeting {
    /// The frame's payload.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Greeting::Hello(hello) => encode_hello(1, hello, 0, None),
            Greeting::Answer { hello, version, standing } => encode_hello(2, hello, *version, Some(standing)),
            Greeting::Refusal(Refusal { code, reason }) => {
                let reason = cut(reason, MAX_REASON_BYTES).as_bytes();
                let mut out = vec![3, code.to_byte()];
                out.extend_from_slice(&(reason.len() as u16).to_le_bytes());
                out.extend_from_slice(reason);
                out
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Greeting, BadGreeting> {
        match bytes.first() {
            Some(kind @ (1 | 2)) => decode_hello(*kind == 2, bytes),
            Some(3) => {
                let (fixed, texts) =
                    bytes.split_first_chunk::<4>().ok_or(BadGreeting("a refusal is too short"))?;
                let (reason, _) = text(texts, u16::from_le_bytes([fixed[2], fixed[3]]), MAX_REASON_BYTES)?;
                Ok(Greeting::Refusal(Refusal { code: RefusalCode::from_byte(fixed[1]), reason }))
            }
            _ => Err(BadGreeting("it is neither a Hello nor a refusal")),
        }
    }
}

fn encode_hello(kind: u8, hello: &Hello, version: u16, standing: Option<&Standing>) -> Vec<u8> {
    let Hello { from, versions, to_server_id, purpose, software } = hello;
    let (software, members) = (cut(software, MAX_SOFTWARE_BYTES), from.members.as_str());
    assert!(members.len() <= MAX_MEMBERS_BYTES, "the configuration has at most 254 servers");
    let purpose = match purpose {
        Purpose::Link => 1,
        Purpose::Snapshot => 2,
    };
    let (standing, about) = match standing {
        None => (0, 0),
        Some(Standing::Unborn) => (1, 0),
        Some(Standing::Member) => (2, 0),
        Some(Standing::Replaceable { node_id }) => (3, *node_id),
        Some(Standing::Unknown) => (4, 0),
        Some(Standing::NotMember { index }) => (5, *index),
        Some(Standing::Refused(..)) => unreachable!("a refusal is sent instead"),
    };
    let mut out = Vec::with_capacity(FIXED + software.len() + members.len());
    out.extend_from_slice(&[kind, from.server_id, *to_server_id, purpose, standing, 0]);
    for half in [version, versions.oldest, versions.newest, from.features.oldest, from.features.newest] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    let cluster_id = from.cluster_id.unwrap_or(0);
    for word in [cluster_id, from.node_id, from.incarnation, from.last_index, from.last_term] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for half in [software.len() as u16, members.len() as u16] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    debug_assert_eq!(out.len(), FIXED);
    out.extend_from_slice(software.as_bytes());
    out.extend_from_slice(members.as_bytes());
    if matches!(standing, 3 | 5) {
        out.extend_from_slice(&about.to_le_bytes());
    }
    out
}

fn decode_hello(answer: bool, bytes: &[u8]) -> Result<Greeting, BadGreeting> {
    let (fixed, texts) = bytes.split_first_chunk::<FIXED>().ok_or(BadGreeting("a Hello is too short"))?;
    let half = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
    let word = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("eight bytes were sliced"));
    let versions = Versions { oldest: half(8), newest: half(10) };
    let features = Versions { oldest: half(12), newest: half(14) };
    if versions.oldest > versions.newest || features.oldest > features.newest {
        return Err(BadGreeting("a range of versions ends before it begins"));
    }
    let [server_id, to_server_id] = [fixed[1], fixed[2]];
    if [server_id, to_server_id].iter().any(|id| !(1..=254).contains(id)) {
        return Err(BadGreeting("a server id is not from 1 to 254"));
    }
    let purpose = match fixed[3] {
        1 => Purpose::Link,
        2 => Purpose::Snapshot,
        _ => return Err(BadGreeting("its purpose is unknown")),
    };
    let (software, texts) = text(texts, half(56), MAX_SOFTWARE_BYTES)?;
    let (members, rest) = text(texts, half(58), MAX_MEMBERS_BYTES)?;
    let cluster_id = Some(word(16)).filter(|&id| id != 0);
    let hello = Hello {
        from: Myself {
            cluster_id,
            node_id: word(24),
            server_id,
            incarnation: word(32),
            last_index: word(40),
            last_term: word(48),
            features,
            members,
        },
        versions,
        to_server_id,
        purpose,
        software,
    };
    if !answer {
        return Ok(Greeting::Hello(hello));
    }
    let standing = match fixed[4] {
        1 => Standing::Unborn,
        2 => Standing::Member,
        3 => {
            let (node_id, _) =
                rest.split_first_chunk().ok_or(BadGreeting("the node id to replace is missing"))?;
            Standing::Replaceable { node_id: u64::from_le_bytes(*node_id) }
        }
        4 => Standing::Unknown,
        5 => {
            let (index, _) = rest.split_first_chunk().ok_or(BadGreeting("the index is missing"))?;
            Standing::NotMember { index: u64::from_le_bytes(*index) }
        }
        _ => return Err(BadGreeting("an answer without a known standing")),
    };
    Ok(Greeting::Answer { hello, version: half(6), standing })
}

/// The text of `length` bytes at the start, without anything that could forge a log line, and what follows it.
fn text(bytes: &[u8], length: u16, limit: usize) -> Result<(String, &[u8]), BadGreeting> {
    let length = length as usize;
    if length > limit || length > bytes.len() {
        return Err(BadGreeting("a text is longer than the message or than its limit"));
    }
    let (text, rest) = bytes.split_at(length);
    let text = std::str::from_utf8(text).map_err(|_| BadGreeting("a text is not UTF-8"))?;
    Ok((text.chars().map(|c| if c.is_control() { '?' } else { c }).collect(), rest))
}

/// At most `limit` bytes of `text`, whole characters.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::peers) fn myself(server_id: u8) -> Myself {
        Myself {
            cluster_id: Some(0xc1),
            node_id: 0xd0 + u64::from(server_id),
            server_id,
            incarnation: 0x1000 + u64::from(server_id),
            last_index: 0,
            last_term: 0,
            features: Versions { oldest: 1, newest: 1 },
            members: "server.1=a:2888".to_owned(),
        }
    }

    fn hello() -> Hello {
        Hello {
            from: Myself {
                last_index: 7,
                last_term: 3,
                features: Versions { oldest: 4, newest: 5 },
                ..myself(2)
            },
            versions: Versions { oldest: 1, newest: 2 },
            to_server_id: 1,
            purpose: Purpose::Link,
            software: "ostler 0.1".to_owned(),
        }
    }

    /// Version 1, written by hand from the document.
    const GOLDEN_HELLO: &[u8] = b"\x01\x02\x01\x01\0\0\0\0\x01\0\x02\0\x04\0\x05\0\
        \xc1\0\0\0\0\0\0\0\xd2\0\0\0\0\0\0\0\x02\x10\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\
        \x0a\0\x0f\0ostler 0.1server.1=a:2888";

    #[test]
    fn the_bytes_of_version_1() {
        assert_eq!(Greeting::Hello(hello()).encode(), GOLDEN_HELLO);
        let mut answer = GOLDEN_HELLO.to_vec();
        answer[0] = 2;
        answer[4] = 3;
        answer[6] = 2;
        answer.extend_from_slice(b"\xaa\0\0\0\0\0\0\0");
        let standing = Standing::Replaceable { node_id: 0xaa };
        assert_eq!(Greeting::Answer { hello: hello(), version: 2, standing }.encode(), answer);
        let refusal = Refusal { code: RefusalCode::OtherDisk, reason: "no".to_owned() };
        assert_eq!(Greeting::Refusal(refusal).encode(), b"\x03\x04\x02\0no");
    }

    #[test]
    fn greetings_read_back() {
        let unborn = Hello { from: Myself { cluster_id: None, ..myself(3) }, ..hello() };
        for greeting in [
            Greeting::Hello(hello()),
            Greeting::Hello(Hello { purpose: Purpose::Snapshot, ..hello() }),
            Greeting::Answer { hello: unborn, version: 1, standing: Standing::Unborn },
            Greeting::Answer { hello: hello(), version: 1, standing: Standing::Member },
            Greeting::Answer { hello: hello(), version: 1, standing: Standing::Unknown },
            Greeting::Answer { hello: hello(), version: 1, standing: Standing::Replaceable { node_id: 9 } },
            Greeting::Answer { hello: hello(), version: 1, standing: Standing::NotMember { index: 7 } },
            Greeting::Refusal(Refusal { code: RefusalCode::Other(200), reason: String::new() }),
        ] {
            assert_eq!(Greeting::decode(&greeting.encode()), Ok(greeting));
        }
        let codes = (0..=255u8).map(RefusalCode::from_byte);
        assert!(codes.zip(0..=255u8).all(|(code, byte)| code.to_byte() == byte));
    }

    #[test]
    fn a_later_release_may_say_more() {
        let more = [GOLDEN_HELLO, b"more"].concat();
        assert_eq!(Greeting::decode(&more), Ok(Greeting::Hello(hello())));
    }

    #[test]
    fn texts_cannot_forge_log_lines() {
        let refusal = Greeting::decode(b"\x03\x01\x05\0a\n\x1b[m");
        let expected = Refusal { code: RefusalCode::OtherCluster, reason: "a??[m".to_owned() };
        assert_eq!(refusal, Ok(Greeting::Refusal(expected)));
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        let range = |oldest, newest| Versions { oldest, newest };
        assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
        assert_eq!(range(2, 5).common(range(1, 3)), Some(3));
        assert_eq!(range(1, 1).common(range(1, 1)), Some(1));
        assert_eq!(range(1, 1).common(range(2, 2)), None);
        assert_eq!(range(3, 4).common(range(1, 2)), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Greeting::decode(&bytes);
        }

        #[test]
        fn a_damaged_hello_never_panics(at in 0..GOLDEN_HELLO.len(), byte: u8, cut in 0..=GOLDEN_HELLO.len()) {
            let mut bytes = GOLDEN_HELLO.to_vec();
            bytes[at] = byte;
            if let Ok(greeting) = Greeting::decode(&bytes[..cut]) {
                // Whatever was understood can be said.
                prop_assert_eq!(Greeting::decode(&greeting.encode()), Ok(greeting));
            }
        }
    }
}
