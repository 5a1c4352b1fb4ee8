//! What is wrong with a configuration, and what is worth knowing about it.

use std::fmt;
use std::io;

/// More than these are counted, not shown: the file is something else then.
pub(super) const MAX_PROBLEMS_SHOWN: usize = 100;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {from}: {error}")]
    Unreadable {
        /// Name of the file.
        from: String,
        /// What the system says.
        error: io::Error,
    },
    /// The settings are wrong; every problem that was found.
    #[error("{from}: {}", Listed(.problems))]
    Invalid {
        /// Name of the file, or where else the settings come from.
        from: String,
        /// In the order of the file; never empty.
        problems: Vec<Problem>,
    },
}

/// One thing wrong with a configuration, and what is expected instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line of the file, from 1; problems of the whole come last.
    line: Line,
    source: String,
    text: String,
}

/// Something to know about a configuration that is accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note(Problem);

/// Orders what has no line after what has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    At(u32),
    Whole,
}

struct Listed<'a>(&'a [Problem]);

impl Problem {
    pub(super) fn new(source: &str, line: Option<u32>, text: String) -> Problem {
        Problem { line: line.map_or(Line::Whole, Line::At), source: source.to_owned(), text }
    }
}

impl Note {
    pub(super) fn new(source: &str, line: Option<u32>, text: String) -> Note {
        Note(Problem::new(source, line, text))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Line::At(line) => write!(f, "{}:{line}: {}", self.source, self.text),
            Line::Whole => write!(f, "{}: {}", self.source, self.text),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "1 problem")?,
            n => write!(f, "{n} problems")?,
        }
        let (shown, more) = self.0.split_at(self.0.len().min(MAX_PROBLEMS_SHOWN));
        shown.iter().try_for_each(|problem| write!(f, "\n  {problem}"))?;
        if !more.is_empty() {
            write!(f, "\n  ... and {} more", more.len())?;
        }
        Ok(())
    }
}
