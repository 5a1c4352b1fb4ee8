//! Four-letter words: ZooKeeper's plain-text reports for operators and monitoring.

mod word;

pub use word::{TELNET_CLOSE, Whitelist, Word};
