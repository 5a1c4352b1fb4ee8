//! Settings as given: looked up, classed, and read as numbers and switches by Java's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::problem::{ConfigError, MAX_PROBLEMS_SHOWN, Note, Problem};
use super::table::{self, Class};
use super::{Loaded, ServerConfig};

/// What is wrong where [`properties`](super::properties) finds a malformed escape.
pub(super) const BAD_ESCAPE: &str =
    "a \\u must be followed by four hexadecimal digits; write \\\\u for a backslash and a u";

/// Where a setting was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Line of the file, from 1.
    Line(u32),
    /// Line of the file that `dynamicConfigFile` names, from 1.
    Dynamic(u32),
    CommandLine,
    BuiltIn,
}

/// A key and its value, as given.
#[derive(Clone, Debug)]
pub(super) struct Given {
    origin: Origin,
    key: String,
    value: String,
}

impl Given {
    pub(super) fn new(origin: Origin, key: impl Into<String>, value: impl Into<String>) -> Given {
        Given { origin, key: key.into(), value: value.into() }
    }
}

/// The settings of one configuration. Reading one that is wrong records a problem and returns something
/// harmless, so that all problems are found in one go; [`Reader::finish`] makes sure that is never used.
pub(super) struct Reader<'a> {
    source: &'a str,
    /// Name of the dynamic file.
    dynamic: String,
    /// By the name of its row, or by its own key where a row stands for many.
    given: BTreeMap<String, Given>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
    asked: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a str, all: Vec<Given>, problems: Vec<Problem>) -> Reader<'a> {
        let mut reader = Reader {
            source,
            dynamic: String::new(),
            given: BTreeMap::new(),
            problems,
            notes: Vec::new(),
            asked: BTreeSet::new(),
        };
        for given in all {
            reader.add(given);
        }
        let all: Vec<_> = reader.given.iter().map(|(name, given)| (name.clone(), given.clone())).collect();
        for (name, given) in all {
            reader.judge(&name, &given);
        }
        reader
    }

    /// What [`Reader::add_dynamic`] adds comes from the file `name`.
    pub(super) fn begin_dynamic(&mut self, name: &str) {
        self.dynamic = name.to_owned();
    }

    /// Adds a line of the dynamic file, which has only those that describe servers.
    pub(super) fn add_dynamic(&mut self, given: Given) {
        match table::find(&given.key).map(|setting| setting.name) {
            Some("server.*" | "group.*" | "weight.*") => {
                if let Some(name) = self.add(given.clone()) {
                    self.judge(&name, &given);
                }
            }
            Some("version") => {
                let text =
                    "version: it belongs into the name of this file, after the last dot; remove the line";
                self.problem_at(given.origin, text.to_owned());
            }
            _ => {
                let text = format!("{}: only server.N lines belong into this file", printable(&given.key));
                self.problem_at(given.origin, text);
            }
        }
    }

    /// Reports a malformed escape.
    pub(super) fn bad_escape(&mut self, origin: Origin) {
        self.problem_at(origin, BAD_ESCAPE.to_owned());
    }

    /// Looks `given` up and keeps it under the name returned.
    fn add(&mut self, given: Given) -> Option<String> {
        let Some(setting) = table::find(&given.key) else {
            self.unknown(&given);
            return None;
        };
        let name = if setting.prefix().is_some() { table::bare(&given.key) } else { setting.name };
        let name = name.to_owned();
        let earlier = self.given.get(&name).map(|earlier| earlier.origin);
        if let (Some(Origin::Line(earlier)), Origin::Line(_))
        | (Some(Origin::Dynamic(earlier)), Origin::Dynamic(_)) = (earlier, given.origin)
        {
            self.note_at(given.origin, format!("{name} replaces line {earlier}, which sets it too"));
        }
        self.given.insert(name.clone(), given);
        Some(name)
    }

    fn unknown(&mut self, given: &Given) {
        let mut text = format!("{}: unknown setting", printable(&given.key));
        if self.problems.len() < MAX_PROBLEMS_SHOWN {
            text.push_str("; the nearest known one is ");
            text.push_str(table::nearest(&given.key));
        }
        self.problem_at(given.origin, text);
    }

    /// Notes what has no effect and reports what is refused.
    fn judge(&mut self, name: &str, given: &Given) {
        match table::find(name).map(|setting| setting.class) {
            Some(Class::Refused { why, instead, harmless }) => {
                if !harmless.iter().any(|value| value.eq_ignore_ascii_case(&given.value)) {
                    let text = format!("{} is refused: {why}; {instead}", assignment(name, &given.value));
                    self.problem_at(given.origin, text);
                }
            }
            Some(Class::NoEffect(reason)) => {
                self.note_at(given.origin, format!("{name} has no effect: {reason}"));
            }
            Some(Class::Honoured) | None => {}
        }
    }

    /// The configuration, unless there was a problem.
    pub(super) fn finish(mut self, config: Option<ServerConfig>) -> Result<Loaded, ConfigError> {
        match config {
            Some(config) if self.problems.is_empty() => {
                self.notes.sort();
                Ok(Loaded { config, notes: self.notes })
            }
            _ => {
                self.problems.sort();
                Err(ConfigError::Invalid { from: self.source.to_owned(), problems: self.problems })
            }
        }
    }

    /// The rows that were read, to be compared with the table.
    #[cfg(test)]
    pub(super) fn asked(&self) -> &BTreeSet<&'static str> {
        &self.asked
    }

    /// The names of all `server.N`, `group.N` and `weight.N` lines.
    pub(super) fn members(&self) -> Vec<String> {
        let is_member = |name: &&String| {
            table::find(name)
                .is_some_and(|setting| ["server.*", "group.*", "weight.*"].contains(&setting.name))
        };
        self.given.keys().filter(is_member).cloned().collect()
    }

    /// Every `server.N` line: name and value.
    pub(super) fn servers(&mut self) -> Vec<(String, String)> {
        self.asked.insert("server.*");
        let is_server = |name: &str| table::find(name).is_some_and(|setting| setting.name == "server.*");
        let all = self.given.iter().filter(|(name, _)| is_server(name));
        all.map(|(name, given)| (name.clone(), given.value.clone())).collect()
    }

    /// The value given for `name`, if any.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.asked.insert(name);
        self.given.get(name).map(|given| given.value.clone())
    }

    /// Whether a command-line option gave `name`, which then wins over everything in the file.
    pub(super) fn is_from_command_line(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|given| given.origin == Origin::CommandLine)
    }

    /// A switch that is `true` or `false` in any case.
    pub(super) fn switch(&mut self, name: &'static str) -> bool {
        let value = self.text(name).unwrap_or_else(|| default(name).to_owned());
        match value.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => {
                self.wrong(name, &value, "true or false");
                false
            }
        }
    }

    /// A switch that is `yes` or `no`.
    pub(super) fn yes(&mut self, name: &'static str) -> bool {
        let value = self.text(name).unwrap_or_else(|| default(name).to_owned());
        match value.as_str() {
            "yes" => true,
            "no" => false,
            _ => {
                self.wrong(name, &value, "yes or no");
                false
            }
        }
    }

    /// A whole number as `Integer.parseInt` reads it: decimal.
    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<i64>) -> i64 {
        let default = default(name).parse();
        let number = match self.text(name) {
            None => default.clone().ok(),
            Some(value) => self.in_range(name, &value, value.parse().ok(), range),
        };
        number.or(default.ok()).expect("the default of a number is one")
    }

    /// A whole number as `Integer.decode` reads it, which ZooKeeper uses for system properties: decimal,
    /// `0x` or `#` hexadecimal, leading `0` octal.
    pub(super) fn system_number(&mut self, name: &'static str, range: RangeInclusive<i64>) -> i64 {
        let default = decode(default(name));
        let number = match self.text(name) {
            None => default,
            Some(value) => self.in_range(name, &value, decode(&value), range),
        };
        number.or(default).expect("the default of a number is one")
    }

    /// Like [`Reader::system_number`] for a setting whose default is not a number.
    pub(super) fn optional_system_number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = self.text(name)?;
        self.in_range(name, &value, decode(&value), range)
    }

    /// Like [`Reader::number`] for a setting whose default is not a number.
    pub(super) fn optional_number(&mut self, name: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.text(name)?;
        self.in_range(name, &value, value.parse().ok(), range)
    }

    /// Raises `value` to `least`, saying so.
    pub(super) fn at_least(&mut self, name: &'static str, value: i64, least: i64) -> i64 {
        if value < least {
            self.note(name, format!("{name}={value} counts as {least}, the least there is"));
        }
        value.max(least)
    }

    /// Raises no objection to a value above `most`, but uses `most` and notes it.
    pub(super) fn at_most(&mut self, name: &'static str, value: i64, most: i64) -> i64 {
        if value > most {
            self.note(name, format!("{name}={value} counts as {most}, the most there is"));
        }
        value.min(most)
    }

    /// Reports that the value of `name` is not what it must be.
    pub(super) fn wrong(&mut self, name: &str, value: &str, expected: impl Display) {
        self.problem(name, format!("{}: expected {expected}", assignment(name, value)));
    }

    /// Reports a problem where `name` was given.
    pub(super) fn problem(&mut self, name: &str, text: String) {
        let origin = self.given.get(name).map_or(Origin::BuiltIn, |given| given.origin);
        self.problem_at(origin, text);
    }

    /// Adds a note where `name` was given.
    pub(super) fn note(&mut self, name: &str, text: String) {
        let origin = self.given.get(name).map_or(Origin::BuiltIn, |given| given.origin);
        self.note_at(origin, text);
    }

    /// `number`, unless it is out of range, which is reported.
    fn in_range(
        &mut self,
        name: &'static str,
        value: &str,
        number: Option<i64>,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let unit = table::find(name).map_or("", |setting| setting.unit);
            let expected = format!("a whole number from {} to {} ({unit})", range.start(), range.end());
            self.wrong(name, value, expected);
        }
        number
    }

    fn problem_at(&mut self, origin: Origin, text: String) {
        let (source, line) = self.place(origin);
        let problem = Problem::new(source, line, text);
        self.problems.push(problem);
    }

    fn note_at(&mut self, origin: Origin, text: String) {
        let (source, line) = self.place(origin);
        let note = Note::new(source, line, text);
        self.notes.push(note);
    }

    fn place(&self, origin: Origin) -> (&str, Option<u32>) {
        match origin {
            Origin::Line(line) => (self.source, Some(line)),
            Origin::Dynamic(line) => (&self.dynamic, Some(line)),
            Origin::CommandLine => ("command line", None),
            Origin::BuiltIn => (self.source, None),
        }
    }
}

fn default(name: &'static str) -> &'static str {
    table::find(name).map(|setting| setting.default).expect("only settings of the table are read")
}

/// `Long.decode`.
fn decode(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = ["0x", "0X", "#"].into_iter().find_map(|prefix| digits.strip_prefix(prefix));
    let (radix, digits) = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) => (16, digits),
        (None, Some(digits)) if !digits.is_empty() => (8, digits),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// `key=value` for a message; what may be a secret is left out.
fn assignment(name: &str, value: &str) -> String {
    let lower = name.to_ascii_lowercase();
    if ["password", "superdigest", "secret"].iter().any(|word| lower.contains(word)) {
        return printable(name);
    }
    format!("{}={}", printable(name), printable(value))
}

/// At most 80 characters, none of which moves the cursor.
pub(super) fn printable(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_decode_as_in_java() {
        for (text, number) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("-1", Some(-1)),
            ("+7", Some(7)),
            ("0xfffff", Some(0xfffff)),
            ("#10", Some(16)),
            ("010", Some(8)),
            ("08", None),
            ("", None),
            ("-", None),
            ("0x", None),
            ("--1", None),
            ("0x-1", None),
            ("1k", None),
            ("9223372036854775808", None),
            ("1.5", None),
        ] {
            assert_eq!(decode(text), number, "{text:?}");
        }
    }

    #[test]
    fn secrets_and_terminal_escapes_stay_out_of_messages() {
        assert_eq!(assignment("ssl.keyStore.password", "hunter2"), "ssl.keyStore.password");
        assert_eq!(assignment("a", "x\u{1b}[2J"), "a=x\\u{1b}[2J");
        assert_eq!(printable(&"y".repeat(81)), format!("{}...", "y".repeat(80)));
    }
}
