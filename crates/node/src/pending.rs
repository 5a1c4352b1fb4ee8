//! Commands of this server's clients from the moment they have a number until apply has judged them (design,
//! invariant 6).
//!
//! Giving a number is a promise: whatever becomes of the leader, everything pending is handed to the next one, oldest
//! first. Apply takes each exactly once and in this order, so the queue is emptied from the front.

use std::collections::VecDeque;

use bytes::Bytes;
use ostler_tree::{Command, EndCondition};
use ostler_types::{Generation, Sequence, SessionId};

use crate::command::{DecodedCommand, key_in_log};
use crate::{ConnToken, ShardId};

/// Commands kept together, bytes; a single command may overshoot it.
const CHUNK_BYTES: usize = 256 << 10;

/// What tells a numbered command from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A request of a session.
    Request(SessionId, Generation, Sequence),
    /// A new session: server, boot and number in its lane.
    Create(u8, u32, u64),
    /// An attach by a server of a session whose generation it saw.
    Attach(u8, SessionId, Generation),
    /// A server registers a boot.
    Register(u8, u32, u64),
}

impl Key {
    /// The key of a command that is being applied, if it is of the kind that has one.
    pub(crate) fn of(command: &DecodedCommand<'_>) -> Option<Key> {
        match command {
            DecodedCommand::Write { session, generation, sequence, .. } => {
                Some(Key::Request(*session, *generation, *sequence))
            }
            DecodedCommand::Plain(command) => Key::of_command(command),
        }
    }

    pub(crate) fn of_command(command: &Command<'_>) -> Option<Key> {
        Some(match *command {
            Command::Write { session, generation, sequence, .. }
            | Command::Refused { session, generation, sequence, .. }
            | Command::EndSession {
                session,
                condition: EndCondition::InSequence(generation, sequence),
                ..
            } => Key::Request(session, generation, sequence),
            Command::CreateSession { server, boot, number, .. } => Key::Create(server, boot, number),
            Command::Attach { server, session, seen, .. } => Key::Attach(server, session, seen),
            Command::RegisterBoot { server, boot, nonce } => Key::Register(server, boot, nonce),
            _ => return None,
        })
    }
}

/// A connection that waits for its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) shard: ShardId,
    pub(crate) connection: ConnToken,
}

/// Commands that were numbered together.
#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    /// Where the first that is not judged yet begins.
    at: usize,
    /// For a chunk that is a single handshake: who asked.
    waiter: Option<Waiter>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    chunks: VecDeque<Chunk>,
    /// How many chunks at the front have been passed on to the present leader.
    passed_on: usize,
    /// Bytes of those.
    passed_on_bytes: usize,
    bytes: usize,
}

impl Pending {
    /// Adds commands that have just been numbered. What is long is kept in pieces, each of whole commands.
    pub(crate) fn push(&mut self, mut bytes: Bytes, waiter: Option<Waiter>) {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            let mut end = 0;
            while end < bytes.len() && (end == 0 || end < CHUNK_BYTES) {
                let (_, length) =
                    key_in_log(&bytes[end..]).expect("numbered commands are whole and have keys");
                end += length;
            }
            let chunk = bytes.split_to(end);
            self.chunks.push_back(Chunk { bytes: chunk, at: 0, waiter });
        }
    }

    /// Takes what has not been passed on to the present leader, the oldest first, as long as less than `window_bytes`
    /// of what has been are not judged.
    pub(crate) fn take_new(&mut self, window_bytes: usize) -> impl Iterator<Item = Bytes> {
        let from = self.passed_on;
        while self.passed_on < self.chunks.len() && self.passed_on_bytes < window_bytes {
            self.passed_on_bytes += self.chunks[self.passed_on].bytes.len();
            self.passed_on += 1;
        }
        self.chunks.range(from..self.passed_on).map(|chunk| chunk.bytes.slice(chunk.at..))
    }

    pub(crate) fn has_new(&self) -> bool {
        self.passed_on < self.chunks.len()
    }

    /// The leader has changed, or what was passed on may not have reached it: everything is new again.
    pub(crate) fn pass_on_again(&mut self) {
        (self.passed_on, self.passed_on_bytes) = (0, 0);
    }

    /// Apply has judged the command with this key. Returns whether it was the one that was waited for first, and
    /// for whom.
    pub(crate) fn judged(&mut self, key: Key) -> Option<Option<Waiter>> {
        let chunk = self.chunks.front_mut()?;
        let rest = &chunk.bytes[chunk.at..];
        let (found, length) = key_in_log(rest)?;
        if found != key {
            return None;
        }
        let waiter = chunk.waiter;
        chunk.at += length;
        if chunk.at == chunk.bytes.len() {
            let length = chunk.bytes.len();
            self.bytes -= length;
            self.chunks.pop_front();
            if self.passed_on > 0 {
                self.passed_on -= 1;
                self.passed_on_bytes -= length;
            }
        }
        Some(waiter)
    }

    /// Gives everything up: nobody will be told what became of it. Returns the handshakes among it.
    pub(crate) fn give_up(&mut self) -> Vec<Waiter> {
        let waiters = self.chunks.drain(..).filter_map(|chunk| chunk.waiter).collect();
        (self.passed_on, self.passed_on_bytes, self.bytes) = (0, 0, 0);
        waiters
    }

    /// Bytes of commands that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many chunks of commands wait.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::CommandBuffer;
    use ostler_types::ErrorCode;

    fn refused(numbers: std::ops::RangeInclusive<u64>) -> Bytes {
        let mut buffer = CommandBuffer::default();
        for number in numbers {
            let (session, generation) = (SessionId(1), Generation(1));
            let (sequence, error) = (Sequence(number), ErrorCode::BadArguments);
            buffer.push_command(&Command::Refused { session, generation, sequence, error });
        }
        buffer.take_bytes()
    }

    fn key(number: u64) -> Key {
        Key::Request(SessionId(1), Generation(1), Sequence(number))
    }

    #[test]
    fn commands_leave_from_the_front_and_the_rest_is_passed_on_again() {
        let mut pending = Pending::default();
        pending.push(refused(1..=3), None);
        pending.push(refused(4..=4), None);
        assert_eq!(pending.take_new(usize::MAX).count(), 2);
        assert!(!pending.has_new());
        assert_eq!(pending.judged(key(2)), None, "not before the first");
        assert_eq!(pending.judged(key(1)), Some(None));
        pending.push(refused(5..=5), None);
        assert_eq!(pending.take_new(usize::MAX).collect::<Vec<_>>(), [refused(5..=5)]);
        pending.pass_on_again();
        assert_eq!(
            pending.take_new(usize::MAX).collect::<Vec<_>>(),
            [refused(2..=3), refused(4..=4), refused(5..=5)]
        );
        for number in 2..=5 {
            assert_eq!(pending.judged(key(number)), Some(None));
        }
        assert_eq!((pending.bytes(), pending.len(), pending.judged(key(5))), (0, 0, None));
    }

    #[test]
    fn what_is_passed_on_and_not_judged_is_bounded() {
        let mut pending = Pending::default();
        for number in 1..=3 {
            pending.push(refused(number..=number), None);
        }
        let one = refused(1..=1).len();
        assert_eq!(pending.take_new(one + 1).count(), 2, "the last may overshoot");
        assert_eq!((pending.take_new(one + 1).count(), pending.has_new()), (0, true));
        pending.judged(key(1)).unwrap();
        pending.judged(key(2)).unwrap();
        assert_eq!(pending.take_new(one + 1).collect::<Vec<_>>(), [refused(3..=3)]);
    }

    #[test]
    fn many_commands_are_kept_in_pieces_of_whole_ones() {
        let mut pending = Pending::default();
        let count = 3 * CHUNK_BYTES as u64 / refused(1..=1).len() as u64;
        pending.push(refused(1..=count), None);
        let pieces: Vec<Bytes> = pending.take_new(usize::MAX).collect();
        assert!(pieces.len() >= 3 && pieces.iter().all(|piece| piece.len() < CHUNK_BYTES + 100));
        assert_eq!(pieces.concat(), refused(1..=count));
        for number in 1..=count {
            assert_eq!(pending.judged(key(number)), Some(None));
        }
        assert_eq!(pending.bytes(), 0);
    }

    #[test]
    fn giving_up_names_who_waits() {
        let waiter = Waiter { shard: ShardId(1), connection: ConnToken { id: crate::ConnId(2), serial: 3 } };
        let mut pending = Pending::default();
        pending.push(refused(1..=1), None);
        pending.push(refused(2..=2), Some(waiter));
        assert_eq!(pending.give_up(), [waiter]);
        assert_eq!((pending.bytes(), pending.has_new()), (0, false));
    }
}
