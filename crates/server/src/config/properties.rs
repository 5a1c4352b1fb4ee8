//! The syntax of a Java properties file, which is what `zoo.cfg` is: `java.util.Properties.load`.
//!
//! Bytes in, entries out, in file order and with line numbers; what the keys mean is decided elsewhere.

/// One `key=value` of a properties file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Line on which the entry begins, from 1.
    pub(super) line: u32,
    /// The key, unescaped. Never empty unless the file says so (`=value`).
    pub(super) key: String,
    /// The value, unescaped, surrounding white space removed as `QuorumPeerConfig.parseProperties` does.
    pub(super) value: String,
}

/// A malformed escape; the only thing a properties file can get wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MalformedEscape {
    /// Line on which the entry begins, from 1.
    pub(super) line: u32,
}

/// Reads every entry. Bytes that are valid UTF-8 are read as UTF-8 (a byte order mark is skipped), others as
/// ISO-8859-1, which is what Java assumes of the file; so every byte sequence is some text.
pub(super) fn parse(bytes: &[u8]) -> Vec<Result<Entry, MalformedEscape>> {
    let text = decode(bytes);
    logical_lines(&text)
        .into_iter()
        .filter(|line| !line.is_nothing())
        .map(|LogicalLine { first, text, .. }| {
            let (key, value) = split_key(&text);
            match (unescape(key), unescape(value)) {
                (Some(key), Some(value)) => Ok(Entry { line: first, key, value: value.trim().to_owned() }),
                _ => Err(MalformedEscape { line: first }),
            }
        })
        .collect()
}

/// The file without the entries whose keys `drop` chooses; everything else, comments too, byte for byte. An entry
/// added to its end is one.
pub(super) fn without(bytes: &[u8], drop: impl Fn(&str) -> bool) -> Vec<u8> {
    let lines = logical_lines(&decode(bytes));
    let chosen = |line: &&LogicalLine| {
        line.is_nothing() || unescape(split_key(&line.text).0).is_some_and(|key| drop(&key))
    };
    let dropped: Vec<_> = lines.iter().filter(chosen).map(|line| line.first..=line.last).collect();
    let mut kept = Vec::with_capacity(bytes.len());
    let (mut number, mut rest) = (1, bytes);
    while !rest.is_empty() {
        let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r')).map_or(rest.len(), |end| {
            let width = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
            end + width
        });
        let (line, after) = rest.split_at(end);
        if !dropped.iter().any(|range| range.contains(&number)) {
            kept.extend_from_slice(line);
        }
        (number, rest) = (number + 1, after);
    }
    if kept.last().is_some_and(|b| !matches!(b, b'\n' | b'\r')) {
        kept.push(b'\n');
    }
    // Only a blank line ends a continuation that nothing has followed.
    let text = kept.trim_ascii_end();
    if text.ends_with(b"\\") {
        // The first may become one with a carriage return before it.
        kept.extend_from_slice(b"\n\n");
    }
    kept
}

/// A line `key=value`, with its end. `key` must be plain letters and dots.
pub(super) fn line(key: &str, value: &str) -> String {
    let mut line = format!("{key}=");
    for unit in value.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'\\') => line.push_str("\\\\"),
            // A blank would be trimmed at the beginning of the value.
            Ok(byte @ 0x21..=0x7e) => line.push(char::from(byte)),
            _ => line.push_str(&format!("\\u{unit:04X}")),
        }
    }
    line.push('\n');
    line
}

/// What Java takes as one line: continued ones are joined.
struct LogicalLine {
    /// Number of its first line in the file, from 1.
    first: u32,
    /// And of its last.
    last: u32,
    text: String,
    /// Whether another line could follow.
    open: bool,
}

impl LogicalLine {
    /// A backslash at the end of the file, after which nothing comes.
    fn is_nothing(&self) -> bool {
        self.open && self.text.is_empty()
    }
}

fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Joins continued lines and drops comments and blank lines.
fn logical_lines(text: &str) -> Vec<LogicalLine> {
    let mut lines = Vec::new();
    let mut continued: Option<LogicalLine> = None;
    for (number, natural) in (1..).zip(natural_lines(text)) {
        let body = natural.trim_start_matches(is_blank);
        if continued.is_none() && (body.is_empty() || body.starts_with(['#', '!'])) {
            continue;
        }
        let begun = continued.take();
        let mut line =
            begun.unwrap_or(LogicalLine { first: number, last: number, text: String::new(), open: true });
        line.last = number;
        let backslashes = body.len() - body.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            line.text.push_str(&body[..body.len() - 1]);
            continued = Some(line);
        } else {
            line.text.push_str(body);
            line.open = false;
            lines.push(line);
        }
    }
    lines.extend(continued);
    lines
}

/// Splits at `\n`, `\r` or `\r\n`.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match text.find(['\n', '\r']) {
            None => rest = None,
            Some(end) => {
                let width = if text[end..].starts_with("\r\n") { 2 } else { 1 };
                rest = Some(&text[end + width..]);
                return Some(&text[..end]);
            }
        }
        Some(text)
    })
}

/// The key ends at the first unescaped `=`, `:` or blank; one separator and blanks around it belong to neither.
fn split_key(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line
        .find(|c| {
            let ends = !escaped && (is_blank(c) || c == '=' || c == ':');
            escaped = c == '\\' && !escaped;
            ends
        })
        .unwrap_or(line.len());
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    (key, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(is_blank))
}

/// `None` if a `\u` is not followed by four hexadecimal digits. Half a surrogate pair becomes U+FFFD.
fn unescape(text: &str) -> Option<String> {
    let mut units = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                None => break,
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('u') => {
                    let mut unit = 0;
                    for _ in 0..4 {
                        unit = unit * 16 + chars.next()?.to_digit(16)? as u16;
                    }
                    units.push(unit);
                    continue;
                }
                Some(other) => other,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(text: &[u8]) -> Vec<(u32, String, String)> {
        parse(text).into_iter().map(|e| e.expect("no bad escape")).map(|e| (e.line, e.key, e.value)).collect()
    }

    fn one(text: &str) -> (String, String) {
        let mut all = entries(text.as_bytes());
        assert_eq!(all.len(), 1, "{all:?}");
        let (_, key, value) = all.remove(0);
        (key, value)
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn separators_are_equals_colon_or_blanks() {
        for text in ["a=b", "a:b", "a b", "  a \t= b  ", "a\t:b", "a   b", "\x0ca=b\r\n"] {
            assert_eq!(one(text), pair("a", "b"), "{text:?}");
        }
        assert_eq!(one("a"), pair("a", ""));
        assert_eq!(one("a=="), pair("a", "="));
        assert_eq!(one("a = b = c"), pair("a", "b = c"));
        assert_eq!(one("=v"), pair("", "v"));
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_lines_are_counted() {
        let text = b"# a=1\n\n  ! b=2\r\nc=3\rd=4 # not a comment\n\t\ne=5";
        let expected = [(4, "c", "3"), (5, "d", "4 # not a comment"), (7, "e", "5")];
        assert_eq!(entries(text), expected.map(|(line, k, v)| (line, k.into(), v.into())));
    }

    #[test]
    fn a_backslash_at_the_end_continues_the_line() {
        assert_eq!(one("a=1,\\\n    2,\\\r\n  3"), pair("a", "1,2,3"));
        assert_eq!(one("a=1\\\n#2"), pair("a", "1#2"), "a continuation is never a comment");
        assert_eq!(one("a=1\\\\\n#2"), pair("a", "1\\"), "an escaped backslash does not continue");
        assert_eq!(one("a=1\\"), pair("a", "1"));
        assert_eq!(entries(b"\\"), []);
        assert_eq!(entries(b"a=1\\\n\nb=2").len(), 2, "a blank line ends the continuation");
    }

    #[test]
    fn escapes_are_javas() {
        assert_eq!(one(r"a\ b\=c\:d=\#e\!f\\g"), pair("a b=c:d", r"#e!f\g"));
        assert_eq!(one(r"k=x\ty\nz\u0041\u00e9\uD83D\uDE00"), pair("k", "x\ty\nzA\u{e9}\u{1f600}"));
        assert_eq!(one(r"k=\uD83D!"), pair("k", "\u{fffd}!"));
        assert_eq!(one(r"dataDir=C:\data"), pair("dataDir", "C:data"), "as in Java, \\d is d");
        for bad in [r"k=\u12", r"\uxyzw=1", r"k=\u+123"] {
            assert_eq!(parse(bad.as_bytes()), [Err(MalformedEscape { line: 1 })], "{bad}");
        }
    }

    #[test]
    fn text_is_utf8_or_else_latin1() {
        assert_eq!(one("a=\u{fc}"), pair("a", "\u{fc}"));
        assert_eq!(entries(b"a=\xfc"), [(1, "a".into(), "\u{fc}".into())]);
        assert_eq!(entries(b"\xef\xbb\xbfa=1"), [(1, "a".into(), "1".into())]);
    }

    #[test]
    fn entries_can_be_taken_out_and_added() {
        let text = b"# head\r\na=1\nserver.1 = x,\\\n   y\n! server.1=comment\nb=\xfc\rserver.2:z";
        let kept = without(text, |key| key.starts_with("server."));
        assert_eq!(kept, b"# head\r\na=1\n! server.1=comment\nb=\xfc\r");
        assert_eq!(without(b"a=1", |_| false), b"a=1\n");
        for open in ["a=1\\", "a=1\\\n", "a=1\\\r", "a=1\\\r\n  "] {
            let mut more = without(open.as_bytes(), |_| false);
            more.extend_from_slice(line("c", "d").as_bytes());
            let pairs: Vec<_> = entries(&more).into_iter().map(|(_, key, value)| (key, value)).collect();
            assert_eq!(pairs, [pair("a", "1"), pair("c", "d")], "{open:?}");
        }
    }

    /// Writes what Java's `Properties.store` would write.
    fn store(key: &str, value: &str) -> String {
        let mut out = String::new();
        let escape = |text: &str, out: &mut String, all_blanks: bool| {
            for (i, unit) in text.encode_utf16().enumerate() {
                match u8::try_from(unit) {
                    Ok(b' ') if all_blanks || i == 0 => out.push_str("\\ "),
                    Ok(b @ (b'=' | b':' | b'#' | b'!' | b'\\')) => {
                        out.push('\\');
                        out.push(char::from(b));
                    }
                    Ok(b @ 0x20..=0x7e) => out.push(char::from(b)),
                    _ => out.push_str(&format!("\\u{unit:04X}")),
                }
            }
        };
        escape(key, &mut out, true);
        out.push('=');
        escape(value, &mut out, false);
        out
    }

    proptest! {
        #[test]
        fn a_line_reads_back(value in "\\PC{0,20}") {
            prop_assert_eq!(entries(line("k", &value).as_bytes()), [(1, "k".to_owned(), value.trim().to_owned())]);
        }

        #[test]
        fn taking_entries_out_leaves_the_others(text in "[ab=\\\\# \r\n]{0,60}") {
            let all = |bytes: &[u8]| {
                parse(bytes).into_iter().flatten().map(|e| (e.key, e.value)).collect::<Vec<_>>()
            };
            let mut expected = all(text.as_bytes());
            expected.retain(|(key, _)| !key.starts_with('a'));
            expected.push(pair("added", "1"));
            let mut kept = without(text.as_bytes(), |key| key.starts_with('a'));
            kept.extend_from_slice(line("added", "1").as_bytes());
            prop_assert_eq!(all(&kept), expected);
        }

        #[test]
        fn what_java_would_store_reads_back(key in "\\PC{1,12}", value in "\\PC{0,20}") {
            prop_assert_eq!(one(&store(&key, &value)), pair(&key, value.trim()));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }

        #[test]
        fn arbitrary_syntax_never_panics(text in "[a=: \t\\\\u0d8#!\r\n\u{e9}]{0,80}") {
            let lines = text.split(['\r', '\n']).count() as u32;
            for entry in parse(text.as_bytes()).into_iter().flatten() {
                prop_assert!(entry.line >= 1 && entry.line <= lines);
            }
        }
    }
}
