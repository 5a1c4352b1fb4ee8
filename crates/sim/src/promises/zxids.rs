//! Writes have one order, which is that of their zxids and agrees with time; reads that ask for it show everything
//! that was acknowledged before them, others at least what was acknowledged a lease ago.

use std::collections::{BTreeMap, VecDeque};

use crate::Micros;

/// How long ago what is asked for may lie.
const KEPT_US: Micros = 10_000_000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Zxids {
    /// Of acknowledged writes, and whose.
    acknowledged: BTreeMap<i64, usize>,
    /// The largest acknowledged by then, oldest first.
    largest: VecDeque<(Micros, i64)>,
    forgotten: i64,
}

impl Zxids {
    /// The largest zxid acknowledged to anybody by `at`.
    pub(crate) fn floor(&self, at: Micros) -> i64 {
        let after = self.largest.partition_point(|&(when, _)| when <= at);
        if after == 0 { self.forgotten } else { self.largest[after - 1].1 }
    }

    /// A write is acknowledged that was sent when `floor` was the largest.
    pub(crate) fn wrote(&mut self, client: usize, zxid: i64, floor: i64, now: Micros) -> Result<(), String> {
        if let Some(other) = self.acknowledged.insert(zxid, client) {
            return Err(format!("two writes have zxid {zxid:#x}: of clients {client} and {other}"));
        }
        if zxid <= floor {
            return Err(format!(
                "client {client} wrote with zxid {zxid:#x} after a write with {floor:#x} was acknowledged"
            ));
        }
        if self.largest.back().is_none_or(|&(_, largest)| largest < zxid) {
            self.largest.push_back((now, zxid));
        }
        while let Some(&(at, zxid)) = self.largest.front()
            && at + KEPT_US < now
            && self.largest.len() > 1
        {
            self.forgotten = zxid;
            self.largest.pop_front();
        }
        Ok(())
    }

    pub(crate) fn largest(&self) -> i64 {
        self.acknowledged.last_key_value().map_or(0, |(&zxid, _)| zxid)
    }
}
