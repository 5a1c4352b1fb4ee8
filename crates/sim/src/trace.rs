//! What happened, for people and as a number that tells whether two runs were the same.

use std::collections::VecDeque;
use std::fmt::Arguments;

use crate::Micros;

/// Lines kept for the report of a failure.
const TAIL: usize = 4_000;

/// See the module's documentation.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    /// Whether lines are kept; the hash is taken of them in any case.
    is_kept: bool,
    is_printed: bool,
    tail: VecDeque<String>,
    line: String,
}

impl Trace {
    /// An empty trace.
    pub fn new(is_kept: bool, is_printed: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, is_kept, is_printed, tail: VecDeque::new(), line: String::new() }
    }

    /// Something happened.
    pub fn note(&mut self, at: Micros, what: Arguments<'_>) {
        use std::fmt::Write as _;
        self.line.clear();
        let (ms, us) = (at / 1_000, at % 1_000);
        write!(self.line, "{ms:>7}.{us:03} {what}").expect("writing to memory does not fail");
        for &byte in self.line.as_bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.is_printed {
            println!("{}", self.line);
        }
        if self.is_kept {
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(self.line.clone());
        }
    }

    /// A number that differs when anything that was noted differs.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }
}
