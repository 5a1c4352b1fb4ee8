//! What Ostler promises, one file each. The judges see what clients and disks see, and share no code with what they
//! judge.

pub(crate) mod connections;
pub(crate) mod counters;
pub(crate) mod history;
pub(crate) mod names;
pub(crate) mod sessions;
pub(crate) mod watches;
pub(crate) mod zxids;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    pub(crate) history: history::History,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) connections: connections::Connections,
    pub(crate) zxids: zxids::Zxids,
    pub(crate) counters: counters::Counters,
    pub(crate) names: names::Names,
    pub(crate) watches: watches::Watches,
}
