//! Which four-letter word it is, and which of them are answered.

use std::fmt;

macro_rules! words {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// ZooKeeper's four-letter words: four bytes sent first on a client connection, answered with text, after
        /// which the server closes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Word {
            $($(#[$doc])* $variant,)*
        }

        impl Word {
            /// All words, in alphabetical order.
            pub const ALL: &[Word] = &[$(Word::$variant,)*];

            /// The word as it is sent.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Word::$variant => $text,)*
                }
            }

            /// The word with these bytes, if it is one. As a length prefix every word would be far beyond any
            /// legal frame, so the first four bytes of a connection tell words and handshakes apart.
            pub fn from_bytes(bytes: [u8; 4]) -> Option<Word> {
                Word::ALL.iter().copied().find(|word| word.as_str().as_bytes() == bytes)
            }
        }
    };
}

words! {
    /// Settings in use.
    Conf = "conf",
    /// Full details of all connections.
    Cons = "cons",
    /// Reset the statistics of all connections.
    Crst = "crst",
    /// Sizes of the data directories.
    Dirs = "dirs",
    /// Sessions and ephemerals.
    Dump = "dump",
    /// The program's environment.
    Envi = "envi",
    /// Show the trace mask.
    Gtmk = "gtmk",
    /// History of the tree's digest.
    Hash = "hash",
    /// Whether the server is read-only.
    Isro = "isro",
    /// Metrics for monitoring.
    Mntr = "mntr",
    /// Whether the server runs.
    Ruok = "ruok",
    /// Reset the server's statistics.
    Srst = "srst",
    /// Summary of the server.
    Srvr = "srvr",
    /// Summary of the server and its connections.
    Stat = "stat",
    /// Set the trace mask; eight bytes follow.
    Stmk = "stmk",
    /// Watches by session.
    Wchc = "wchc",
    /// Watches by path.
    Wchp = "wchp",
    /// Summary of the watches.
    Wchs = "wchs",
}

/// What a word does besides being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it only reports.
    None,
    /// The statistics of every connection start anew.
    ResetConnections,
    /// The server's statistics start anew: latency, packet counters, and the metrics of `mntr` that count.
    ResetServer,
    /// Eight bytes follow, big-endian: the new trace mask.
    SetTraceMask,
}

impl Word {
    /// What it does besides being answered.
    pub fn effect(self) -> Effect {
        match self {
            Word::Crst => Effect::ResetConnections,
            Word::Srst => Effect::ResetServer,
            Word::Stmk => Effect::SetTraceMask,
            Word::Conf
            | Word::Cons
            | Word::Dirs
            | Word::Dump
            | Word::Envi
            | Word::Gtmk
            | Word::Hash
            | Word::Isro
            | Word::Mntr
            | Word::Ruok
            | Word::Srvr
            | Word::Stat
            | Word::Wchc
            | Word::Wchp
            | Word::Wchs => Effect::None,
        }
    }

    /// Whether it is answered [`super::NOT_SERVING`] while the server is not serving. The others speak of the
    /// program, not of the tree (`isro` then says `null`).
    pub fn needs_serving(self) -> bool {
        !matches!(self, Word::Ruok | Word::Isro | Word::Envi | Word::Gtmk | Word::Stmk)
    }
}

/// What telnet sends when it is told to close (`0xfff4fffd`); ZooKeeper recognises it and just closes.
pub const TELNET_CLOSE: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The set of words that are answered: `4lw.commands.whitelist`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Whitelist(u32);

impl Whitelist {
    /// No word at all.
    pub const NONE: Whitelist = Whitelist(0);

    /// Every word.
    pub fn all() -> Whitelist {
        Word::ALL.iter().copied().collect()
    }

    /// Whether `word` is answered.
    pub fn allows(self, word: Word) -> bool {
        self.0 & bit(word) != 0
    }

    /// The words answered, in alphabetical order.
    pub fn words(self) -> impl Iterator<Item = Word> {
        Word::ALL.iter().copied().filter(move |&word| self.allows(word))
    }
}

fn bit(word: Word) -> u32 {
    1 << word as u32
}

impl FromIterator<Word> for Whitelist {
    fn from_iter<I: IntoIterator<Item = Word>>(words: I) -> Self {
        Whitelist(words.into_iter().fold(0, |bits, word| bits | bit(word)))
    }
}

impl fmt::Display for Whitelist {
    /// As `4lw.commands.whitelist` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Whitelist::all() {
            return f.write_str("*");
        }
        for (i, word) in self.words().enumerate() {
            write!(f, "{}{word}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Whitelist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Whitelist({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_known_by_their_bytes_and_nothing_else_is() {
        assert_eq!(Word::from_bytes(*b"ruok"), Some(Word::Ruok));
        assert_eq!(Word::from_bytes(*b"RUOK"), None);
        assert_eq!(Word::from_bytes([0, 0, 0, 44]), None);
        assert_eq!(Word::from_bytes(TELNET_CLOSE), None);
        for &word in Word::ALL {
            assert_eq!(Word::from_bytes(word.as_str().as_bytes().try_into().unwrap()), Some(word));
        }
    }

    #[test]
    fn a_whitelist_allows_what_it_was_given() {
        let some: Whitelist = [Word::Srvr, Word::Mntr].into_iter().collect();
        assert!(some.allows(Word::Mntr) && !some.allows(Word::Ruok));
        assert_eq!(some.to_string(), "mntr, srvr");
        assert_eq!(Whitelist::all().to_string(), "*");
        assert_eq!(Whitelist::NONE.to_string(), "");
        assert_eq!(Whitelist::all().words().count(), Word::ALL.len());
    }
}
