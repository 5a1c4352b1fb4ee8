//! Playing a scenario to a server.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Side;
use super::pattern::{Bindings, Chunk, Mismatch, hex};
use super::scenario::{Action, ParseError, Scenario, Step};

/// How long a missing answer is waited for. Longer than anything a scenario waits for on purpose: a session
/// of 4 s expires within 6 s on Apache ZooKeeper.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest frame taken from a server, in bytes; the longest recorded one has less than 1 KiB.
const MAX_FRAME_LEN: u32 = 1 << 20;

/// Plays a scenario to the server at `address`, expecting what Ostler answers.
///
/// # Errors
/// See [`Failure`].
pub fn replay(address: SocketAddr, text: &str) -> Result<Report, Failure> {
    replay_as(Side::Ostler, address, text)
}

/// Plays a scenario to the server at `address`, expecting the answers of `side`.
///
/// # Errors
/// See [`Failure`].
pub fn replay_as(side: Side, address: SocketAddr, text: &str) -> Result<Report, Failure> {
    let scenario = Scenario::parse(text).map_err(Failure::Unreadable)?;
    let mut player = Player { address, connections: BTreeMap::new(), bindings: Bindings::default() };
    let mut report = Report::default();
    for step in scenario.steps.iter().filter(|step| step.side.is_none_or(|only| only == side)) {
        player.play(step, &mut report).map_err(|reason| {
            let (connection, remark) = (step.connection.clone(), step.remark.clone());
            Failure::Step(Box::new(StepFailure { line: step.line, connection, remark, reason }))
        })?;
    }
    Ok(report)
}

/// What was played.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Writes to the server; mostly one request each.
    pub sends: usize,
    /// Replies, events and handshake answers that were as recorded.
    pub frames_compared: usize,
    /// Connections the server ended where it should.
    pub closed: usize,
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Report) {
        self.sends += other.sends;
        self.frames_compared += other.frames_compared;
        self.closed += other.closed;
    }
}

/// Why a scenario did not play to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The file is not in the format.
    Unreadable(ParseError),
    /// The server did something else.
    Step(Box<StepFailure>),
}

/// The line at which a server did something that was not recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepFailure {
    /// Line number in the file, from 1.
    pub line: usize,
    /// The connection's name.
    pub connection: String,
    /// The remark on that line.
    pub remark: String,
    /// What the server did.
    pub reason: Reason,
}

/// What a server did that was not recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It answered something else.
    Different {
        /// The first field that differs.
        mismatch: Mismatch,
        /// The whole frame as hexadecimal digits.
        frame: String,
    },
    /// It closed the connection instead of answering.
    Closed,
    /// It neither answered nor closed the connection for a minute.
    Silent,
    /// It answered where it should have closed the connection; the beginning of what came.
    StillOpen(String),
    /// A frame announced a length that is negative or over 1 MiB.
    Length(u32),
    /// The socket failed.
    Io(String),
    /// The scenario itself makes no sense, such as sending on a connection that is not open.
    Scenario(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreadable(error) => error.fmt(f),
            Failure::Step(step) => {
                let StepFailure { line, connection, remark, reason } = step.as_ref();
                write!(f, "line {line}, connection {connection} ({remark}): {reason}")
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Different { mismatch, frame } => write!(f, "{mismatch}\n  the whole frame: {frame}"),
            Reason::Closed => write!(f, "the server closed the connection instead of answering"),
            Reason::Silent => write!(f, "nothing came within {} s", ANSWER_TIMEOUT.as_secs()),
            Reason::StillOpen(bytes) => write!(f, "expected the end of the connection, received {bytes}"),
            Reason::Length(length) => write!(f, "a frame announces {length:#x} bytes"),
            Reason::Io(error) => write!(f, "{error}"),
            Reason::Scenario(problem) => write!(f, "the scenario is wrong: {problem}"),
        }
    }
}

impl std::error::Error for Failure {}

struct Player {
    address: SocketAddr,
    connections: BTreeMap<String, TcpStream>,
    bindings: Bindings,
}

impl Player {
    fn play(&mut self, step: &Step, report: &mut Report) -> Result<(), Reason> {
        match &step.action {
            Action::Connect => self.connect(&step.connection),
            Action::Close => self.open(&step.connection).map(|_| ()).map(|()| {
                self.connections.remove(&step.connection);
            }),
            Action::Send(chunks) => {
                let bytes = self.bindings.render(chunks).map_err(Reason::Scenario)?;
                report.sends += 1;
                send(self.open(&step.connection)?, &bytes)
            }
            Action::Receive(chunks) => {
                let frame = receive(self.open(&step.connection)?)?;
                report.frames_compared += 1;
                self.compare(chunks, &frame)
            }
            Action::Closed => {
                expect_end(self.open(&step.connection)?)?;
                report.closed += 1;
                self.connections.remove(&step.connection);
                Ok(())
            }
        }
    }

    fn connect(&mut self, name: &str) -> Result<(), Reason> {
        let stream = TcpStream::connect_timeout(&self.address, ANSWER_TIMEOUT).map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(io)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(io)?;
        match self.connections.insert(name.to_owned(), stream) {
            None => Ok(()),
            Some(_) => Err(Reason::Scenario(format!("{name} is already connected"))),
        }
    }

    fn open(&mut self, name: &str) -> Result<&mut TcpStream, Reason> {
        self.connections.get_mut(name).ok_or_else(|| Reason::Scenario(format!("{name} is not connected")))
    }

    fn compare(&mut self, chunks: &[Chunk], frame: &[u8]) -> Result<(), Reason> {
        let compared = self.bindings.compare(chunks, frame);
        compared.map_err(|mismatch| Reason::Different { mismatch, frame: hex(frame) })
    }
}

/// A server may close while it is being written to; what it does then is judged by the next line.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), Reason> {
    match stream.write_all(bytes) {
        Err(error) if is_end(error.kind()) => Ok(()),
        written => written.map_err(io),
    }
}

/// The next frame, its length included.
fn receive(stream: &mut TcpStream) -> Result<Vec<u8>, Reason> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame).map_err(unanswered)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
    if length > MAX_FRAME_LEN {
        return Err(Reason::Length(length));
    }
    frame.resize(4 + length as usize, 0);
    stream.read_exact(&mut frame[4..]).map_err(unanswered)?;
    Ok(frame)
}

fn expect_end(stream: &mut TcpStream) -> Result<(), Reason> {
    let mut bytes = [0; 64];
    match stream.read(&mut bytes) {
        Ok(0) => Ok(()),
        Ok(count) => Err(Reason::StillOpen(hex(&bytes[..count]))),
        Err(error) if is_end(error.kind()) => Ok(()),
        Err(error) => Err(unanswered(error)),
    }
}

/// A server that closes a socket with unread bytes in it resets the connection.
fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
}

fn unanswered(error: std::io::Error) -> Reason {
    match error.kind() {
        ErrorKind::UnexpectedEof => Reason::Closed,
        kind if is_end(kind) => Reason::Closed,
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Reason::Silent,
        _ => io(error),
    }
}

fn io(error: std::io::Error) -> Reason {
    Reason::Io(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What the peer does on the connections it accepts, one script after the other.
    enum Act {
        Read(usize),
        Write(Vec<u8>),
    }

    /// A server that follows `scripts`, one for each connection, and closes each at the end of its script.
    fn peer(scripts: Vec<Vec<Act>>) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for script in scripts {
                let (mut stream, _) = listener.accept().unwrap();
                for act in script {
                    match act {
                        Act::Read(count) => stream.read_exact(&mut vec![0; count]).unwrap(),
                        // The player hangs up as soon as something is wrong.
                        Act::Write(bytes) if stream.write_all(&bytes).is_err() => break,
                        Act::Write(_) => {}
                    }
                }
            }
        });
        address
    }

    const SCENARIO: &str = "connect A
A> 00000001 ff
A< 0000002c 00000007 {sid:A} {pw:A} {zxid+0} {time:+0}  # answer
A> 00000008 {sid:A}
A< 00000010 {zxid+2} {time:+0}
A! closed
";

    fn answers() -> (Vec<u8>, Vec<u8>) {
        let mut first = vec![0, 0, 0, 44, 0, 0, 0, 7];
        first.extend([1; 8]);
        first.extend([2; 16]);
        first.extend(5i64.to_be_bytes());
        first.extend([3; 8]);
        let mut second = vec![0, 0, 0, 16];
        second.extend(7i64.to_be_bytes());
        second.extend([3; 8]);
        (first, second)
    }

    fn play_with(first: Vec<u8>, second: Vec<u8>) -> Result<Report, Failure> {
        let script = vec![Act::Read(5), Act::Write(first), Act::Read(12), Act::Write(second)];
        replay(peer(vec![script]), SCENARIO)
    }

    #[test]
    fn what_was_recorded_passes() {
        let (first, second) = answers();
        assert_eq!(play_with(first, second), Ok(Report { sends: 2, frames_compared: 2, closed: 1 }));
    }

    #[test]
    fn any_byte_flipped_outside_the_masks_fails() {
        let (first, second) = answers();
        // Not the first length: both would wait for each other. The second one stands for it.
        for index in (4..8).chain(8 + 8 + 16..first.len() - 8) {
            let mut flipped = first.clone();
            flipped[index] ^= 0x40;
            // The zxid base follows the first zxid, so what is wrong there shows at the second.
            assert!(play_with(flipped, second.clone()).is_err(), "byte {index} of the first answer");
        }
        for index in 0..second.len() {
            let mut flipped = second.clone();
            flipped[index] ^= 0x40;
            assert!(play_with(first.clone(), flipped).is_err(), "byte {index} of the second answer");
        }
    }

    #[test]
    fn any_byte_flipped_inside_a_mask_passes_if_it_is_so_throughout() {
        let (first, second) = answers();
        for index in 8..8 + 8 + 16 {
            let mut flipped = first.clone();
            flipped[index] ^= 0x40;
            assert!(play_with(flipped, second.clone()).is_ok(), "byte {index}: session id or password");
        }
        for index in 0..8 {
            let (mut first, mut second) = (first.clone(), second.clone());
            first[32 + 8 + index] ^= 0x40;
            second[4 + 8 + index] ^= 0x40;
            assert!(play_with(first, second).is_ok(), "byte {index} of the time");
        }
        let (mut first, mut second) = (first, second);
        first[32..40].copy_from_slice(&(5i64 << 32).to_be_bytes());
        second[4..12].copy_from_slice(&((5i64 << 32) + 2).to_be_bytes());
        assert!(play_with(first, second).is_ok(), "another zxid base");
    }

    #[test]
    fn frames_missing_cut_short_or_too_many_fail() {
        let reason = |failure: Result<Report, Failure>| match failure {
            Err(Failure::Step(step)) => (step.line, step.reason),
            other => panic!("expected a failing line, got {other:?}"),
        };
        let (first, second) = answers();
        assert_eq!(reason(play_with(first.clone(), Vec::new())), (5, Reason::Closed));
        assert_eq!(reason(play_with(first.clone(), second[..9].to_vec())), (5, Reason::Closed));
        let extra = [second.clone(), vec![9]].concat();
        assert_eq!(reason(play_with(first.clone(), extra)), (6, Reason::StillOpen("09".into())));
        assert_eq!(reason(play_with(vec![0xff; 4], second)), (3, Reason::Length(u32::MAX)));
    }

    #[test]
    fn an_error_names_line_connection_remark_and_field() {
        let (mut first, second) = answers();
        first[7] = 8;
        let failure = play_with(first, second).unwrap_err().to_string();
        let expected =
            "line 3, connection A (answer): field 2 (byte 4): expected 00000007, received 00000008";
        assert!(failure.starts_with(expected), "{failure}");
    }

    #[test]
    fn each_side_plays_its_own_lines() {
        let text = "connect A\n@zookeeper A> 0000000101\n@ostler A> 000000020101\nA< 00000001 09\n\
                    @zookeeper A! closed\n@ostler close A\n";
        let script = |length| vec![Act::Read(length), Act::Write(vec![0, 0, 0, 1, 9])];
        let address = peer(vec![script(5), script(6)]);
        let zookeeper = replay_as(Side::ZooKeeper, address, text).unwrap();
        assert_eq!(zookeeper, Report { sends: 1, frames_compared: 1, closed: 1 });
        let ostler = replay_as(Side::Ostler, address, text).unwrap();
        assert_eq!(ostler, Report { sends: 1, frames_compared: 1, closed: 0 });
    }

    #[test]
    fn a_scenario_that_makes_no_sense_says_so() {
        for (text, line) in
            [("A> 00", 1), ("connect A\nA> {sid:A}", 2), ("connect A\nconnect A", 2), ("close A", 1)]
        {
            let address = peer(vec![Vec::new(), Vec::new()]);
            match replay(address, text) {
                Err(Failure::Step(step)) => {
                    assert_eq!(step.line, line);
                    assert!(matches!(step.reason, Reason::Scenario(_)), "{text:?}: {}", step.reason);
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(matches!(replay(peer(Vec::new()), "what"), Err(Failure::Unreadable(_))));
    }
}
