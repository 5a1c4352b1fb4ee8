//! Four-letter words: ZooKeeper's plain-text reports for operators and monitoring.
//!
//! Every function here turns facts into the text that goes to the socket, and does nothing else; gathering the
//! facts, and resetting what `crst` and `srst` reset, is the caller's. Formats and key names are those of
//! Apache ZooKeeper 3.9.5, recorded from it; `docs/operations.md` lists the differences, all deliberate.
//!
//! The order is: [`Word::from_bytes`] on a connection's first four bytes; [`Whitelist::allows`], or
//! [`not_whitelisted`]; [`Word::needs_serving`] against [`NOT_SERVING`]; then [`Word::effect`] and the text; and
//! the connection is closed.

mod connections;
mod environment;
mod monitor;
mod number;
mod server;
mod sessions;
mod settings;
mod watches;
mod word;

pub use connections::{ConnectionReport, LastOperation, SessionReport, cons};
pub use environment::{Environment, Memory, envi};
pub use monitor::mntr;
pub use number::Summary;
pub use server::{DigestReport, Mode, ServerReport, VERSION, hash, isro, srvr, stat};
pub use sessions::{ConnectionDeadline, DumpReport, SessionDeadline, dump};
pub use settings::{DataSizes, conf, dirs};
pub use watches::{WatchTotals, wchc, wchp, wchs};
pub use word::{Effect, TELNET_CLOSE, Whitelist, Word};

/// Answer to `ruok`, even when the server is not serving. No line end.
pub const IMOK: &str = "imok";

/// Answer to most words while the server is not serving; see [`Word::needs_serving`].
pub const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// Answer to `crst`.
pub const CONNECTION_STATS_RESET: &str = "Connection stats reset.\n";

/// Answer to `srst`.
pub const SERVER_STATS_RESET: &str = "Server stats reset.\n";

/// Answer to a word that the whitelist does not allow.
pub fn not_whitelisted(word: Word) -> String {
    format!("{word} is not executed because it is not in the whitelist.\n")
}

/// Answer to `gtmk`, and to `stmk` with the mask it has set: decimal, no line end. The mask is kept and shown for
/// tools that ask; Ostler's log levels are set otherwise.
pub fn trace_mask(mask: i64) -> String {
    mask.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_answers() {
        assert_eq!(not_whitelisted(Word::Mntr), "mntr is not executed because it is not in the whitelist.\n");
        assert_eq!(trace_mask(306), "306");
        assert_eq!(trace_mask(-1), "-1");
    }
}
