//! Every setting ZooKeeper knows and those that only Ostler has, and what Ostler does with each: one table, from
//! which the reader of `zoo.cfg`, the start messages and the table in `docs/operations.md` are made.
//!
//! Names are ZooKeeper's, without the `zookeeper.` that its system properties begin with; a key is found with
//! or without that prefix. A name that ends in `*` stands for every key beginning with what is before it.

mod connections;
mod ensemble;
mod own;
mod security;
mod storage;

/// What Ostler does when a setting is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It works as in ZooKeeper, or as its effect says.
    Honoured,
    /// It is accepted and changes nothing; start logs one line with this reason.
    NoEffect(&'static str),
    /// The server does not start, because ignoring the setting would be worse.
    Refused {
        /// What the operator would wrongly rely on.
        why: &'static str,
        /// What to do instead.
        instead: &'static str,
        /// Values, compared without case, that ask for nothing and are therefore accepted.
        harmless: &'static [&'static str],
    },
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// ZooKeeper's name for it, without `zookeeper.`.
    pub name: &'static str,
    /// Other names it is accepted under.
    pub aliases: &'static [&'static str],
    /// What Ostler does with it.
    pub class: Class,
    /// Value when it is not set: a literal value, or words in parentheses where it depends on others.
    pub default: &'static str,
    /// Unit of the value, or its kind (`yes/no`, `path`, ...).
    pub unit: &'static str,
    /// What it does, in a line. For a setting with no effect, what it does in ZooKeeper.
    pub effect: &'static str,
}

impl Setting {
    const fn alias(self, aliases: &'static [&'static str]) -> Setting {
        Setting { aliases, ..self }
    }

    /// The part before the `*`, if this row stands for many keys.
    pub fn prefix(&self) -> Option<&'static str> {
        self.name.strip_suffix('*')
    }
}

const fn honoured(
    name: &'static str,
    default: &'static str,
    unit: &'static str,
    effect: &'static str,
) -> Setting {
    Setting { name, aliases: &[], class: Class::Honoured, default, unit, effect }
}

const fn no_effect(
    name: &'static str,
    default: &'static str,
    unit: &'static str,
    effect: &'static str,
    reason: &'static str,
) -> Setting {
    Setting { name, aliases: &[], class: Class::NoEffect(reason), default, unit, effect }
}

/// A row's remaining facts once it is refused: why, and what to do instead.
#[derive(Clone, Copy)]
struct Refusal {
    why: &'static str,
    instead: &'static str,
}

const fn refused(
    name: &'static str,
    default: &'static str,
    unit: &'static str,
    effect: &'static str,
    harmless: &'static [&'static str],
    refusal: Refusal,
) -> Setting {
    let class = Class::Refused { why: refusal.why, instead: refusal.instead, harmless };
    Setting { name, aliases: &[], class, default, unit, effect }
}

const SECTIONS: [(&str, &[Setting]); 5] = [
    ("Data, log and tree", storage::SETTINGS),
    ("Listener, sessions and limits", connections::SETTINGS),
    ("Access, TLS, admin and audit", security::SETTINGS),
    ("Ensemble", ensemble::SETTINGS),
    ("Ostler's own", own::SETTINGS),
];

/// The table in the order of the documentation: heading and rows.
pub fn sections() -> impl Iterator<Item = (&'static str, &'static [Setting])> {
    SECTIONS.into_iter()
}

fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|(_, settings)| settings.iter())
}

/// `key` without the prefix of ZooKeeper's system properties.
pub(super) fn bare(key: &str) -> &str {
    key.strip_prefix("zookeeper.").unwrap_or(key)
}

/// The row for `key`: exact name or alias first, then the longest matching `prefix*`.
pub fn find(key: &str) -> Option<&'static Setting> {
    let key = bare(key);
    settings().find(|s| s.prefix().is_none() && (s.name == key || s.aliases.contains(&key))).or_else(|| {
        settings()
            .filter(|s| s.prefix().is_some_and(|prefix| key.len() > prefix.len() && key.starts_with(prefix)))
            .max_by_key(|s| s.name.len())
    })
}

/// The known name most like `key`, of which only the beginning is looked at: no name is longer.
pub(super) fn nearest(key: &str) -> &'static str {
    let key: String = bare(key).chars().take(80).flat_map(char::to_lowercase).collect();
    settings()
        .flat_map(|s| std::iter::once(s.name).chain(s.aliases.iter().copied()))
        .min_by_key(|name| strsim::damerau_levenshtein(&key, &name.to_lowercase()))
        .expect("the table is not empty")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_has_one_row_and_every_row_says_what_it_is() {
        let mut seen = BTreeSet::new();
        for setting in settings() {
            for name in std::iter::once(&setting.name).chain(setting.aliases) {
                assert!(seen.insert(*name), "{name} has two rows");
                assert_eq!(bare(name), *name, "{name} is written without its prefix");
            }
            assert!(!setting.effect.is_empty() && !setting.unit.is_empty() && !setting.default.is_empty());
            match setting.class {
                Class::Honoured => {}
                Class::NoEffect(reason) => assert!(!reason.is_empty(), "{}", setting.name),
                Class::Refused { why, instead, .. } => {
                    assert!(!why.is_empty() && !instead.is_empty(), "{}", setting.name)
                }
            }
        }
    }

    #[test]
    fn the_most_specific_row_wins() {
        assert_eq!(find("tickTime").unwrap().name, "tickTime");
        assert_eq!(find("zookeeper.snapCount").unwrap().name, "snapCount");
        assert_eq!(find("ssl.crl").unwrap().name, "ssl.crl");
        assert_eq!(find("ssl.quorum.made.up").unwrap().name, "ssl.quorum.*");
        assert_eq!(find("ssl.made.up").unwrap().name, "ssl.*");
        assert_eq!(find("server.1").unwrap().name, "server.*");
        assert!(find("server.").is_none());
        assert!(find("server.*").is_some_and(|s| s.prefix().is_some()));
        assert!(find("ticktime").is_none(), "names are case sensitive, as in ZooKeeper");
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        for (typo, meant) in [
            ("ticktime", "tickTime"),
            ("maxClientConns", "maxClientCnxns"),
            ("dataDri", "dataDir"),
            ("zookeeper.snapcount", "snapCount"),
            ("4lw.command.whitelist", "4lw.commands.whitelist"),
            ("autopurge.purgeIntervall", "autopurge.purgeInterval"),
        ] {
            assert_eq!(nearest(typo), meant, "{typo}");
        }
    }
}
