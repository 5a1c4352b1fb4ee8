//! The log: one line per event on standard error, as text for people or JSON for machines.
//!
//! A thread of its own writes it, so that whoever reads it slowly, or not at all, does not hold up the server.
//! Lines that it cannot keep up with are dropped, and a line says how many.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::{Mutex, OnceLock};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt as lines};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level, module, message and `key=value` fields; in colour on a terminal.
    #[default]
    Text,
    /// One JSON object per line, with `timestamp`, `level`, `target`, `message` and the fields beside them.
    Json,
}

/// Which events are logged: a level, or levels by module as in `info,ostler_server=debug`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLevels {
    targets: Targets,
    text: String,
}

/// What is wrong with the text of [`LogLevels`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{item}` is not a level: expected off, error, warn, info, debug or trace, or module=level, separated by commas"
)]
pub struct BadLevel {
    item: String,
}

/// The process already has a log.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be started: {0}")]
pub struct AlreadyLogging(#[from] TryInitError);

impl FromStr for LogLevels {
    type Err = BadLevel;

    fn from_str(text: &str) -> Result<LogLevels, BadLevel> {
        let mut targets = Targets::new();
        for item in text.split(',').map(str::trim) {
            let bad = || BadLevel { item: item.to_owned() };
            let (module, level) = match item.split_once('=') {
                None => (None, item),
                Some((module, level)) => (Some(module.trim()), level.trim()),
            };
            // LevelFilter also reads numbers and the empty text, which would hide mistakes.
            let named = !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_alphabetic());
            let level: LevelFilter = level.parse().ok().filter(|_| named).ok_or_else(bad)?;
            targets = match module {
                None => targets.with_default(level),
                Some("") => return Err(bad()),
                Some(module) => targets.with_target(module, level),
            };
        }
        Ok(LogLevels { targets, text: text.to_owned() })
    }
}

impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Lines that wait to be written; further ones are dropped. A few megabytes.
const WAITING_LINES: usize = 16_384;

/// Counts the lines dropped by this process.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
/// Dropped at the end, it waits until what is waiting is written.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Starts the log of this process, once. Whoever ends the process calls [`finish`] before.
///
/// # Errors
/// The process has a log already.
pub fn start(format: LogFormat, levels: &LogLevels) -> Result<(), AlreadyLogging> {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("ostler-logging")
        .finish(Output { to: io::stderr(), told: 0 });
    let counter = writer.error_counter();
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => Box::new(lines::layer().with_ansi(io::stderr().is_terminal()).with_writer(writer)),
        LogFormat::Json => Box::new(lines::layer().json().flatten_event(true).with_writer(writer)),
    };
    tracing_subscriber::registry().with(layer.with_filter(levels.targets.clone())).try_init()?;
    DROPPED.get_or_init(|| counter);
    *WRITER.lock().expect("nothing panics with it") = Some(guard);
    Ok(())
}

/// Writes what is waiting, for a second at most, and ends the log.
pub fn finish() {
    drop(WRITER.lock().expect("nothing panics with it").take());
}

/// Standard error, and a line about lines that are missing in it.
struct Output<W> {
    to: W,
    /// Dropped lines that have been told of.
    told: usize,
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
        if dropped > self.told {
            // Waits its turn like any other, or is dropped like any other and counted next time.
            tracing::warn!(
                lines = dropped - self.told,
                "log lines were dropped: nobody takes them as fast as they come"
            );
            self.told = dropped;
        }
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn levels_are_general_or_by_module() {
        let levels: LogLevels = "warn, ostler_server=debug".parse().unwrap();
        assert!(levels.targets.would_enable("ostler_server::config", &Level::DEBUG));
        assert!(!levels.targets.would_enable("ostler_node", &Level::INFO));
        assert!(levels.targets.would_enable("ostler_node", &Level::WARN));
        let off: LogLevels = "OFF".parse().unwrap();
        assert!(!off.targets.would_enable("ostler_node", &Level::ERROR));
    }

    #[test]
    fn a_misspelt_level_is_not_a_module() {
        for (text, item) in
            [("debgu", "debgu"), ("", ""), ("info,", ""), ("=info", "=info"), ("a=b", "a=b"), ("3", "3")]
        {
            assert_eq!(text.parse::<LogLevels>(), Err(BadLevel { item: item.to_owned() }), "{text}");
        }
    }
}
