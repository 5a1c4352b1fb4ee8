//! Reading scenario files.

use std::fmt;

use super::Side;
use super::pattern::Chunk;

/// A scenario: what it needs of the server, and what happens on which connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// What the server must be configured with, in the order of the file.
    pub settings: Vec<Setting>,
    /// Whether the built-in tree must be untouched.
    pub fresh_server: bool,
    /// Whether Apache ZooKeeper is unable to serve afterwards. Ostler never is.
    pub disposable_zookeeper: bool,
    pub(crate) steps: Vec<Step>,
}

/// A `setting` line, such as `zookeeper.enforceQuota=true`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// A `zookeeper.*` property or the name of a line in zoo.cfg.
    pub key: String,
    /// Its value, as written.
    pub value: String,
}

/// One line that does something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    /// Line number in the file, from 1.
    pub(crate) line: usize,
    /// The only side it holds for.
    pub(crate) side: Option<Side>,
    /// The connection's name.
    pub(crate) connection: String,
    pub(crate) action: Action,
    /// The remark at the end of the line, or nothing.
    pub(crate) remark: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    Connect,
    Close,
    Send(Vec<Chunk>),
    Receive(Vec<Chunk>),
    Closed,
}

impl Scenario {
    /// Reads the text of a scenario file.
    ///
    /// # Errors
    /// The first line that is not in the format, with the reason.
    pub fn parse(text: &str) -> Result<Scenario, ParseError> {
        let mut scenario = Scenario {
            settings: Vec::new(),
            fresh_server: false,
            disposable_zookeeper: false,
            steps: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let fail = |reason: String| ParseError { line: number, reason };
            let (code, remark) = match line.split_once('#') {
                Some((code, remark)) => (code.trim(), remark.trim()),
                None => (line.trim(), ""),
            };
            match code.split_once(' ') {
                _ if code.is_empty() => {}
                Some(("setting", setting)) => {
                    let (key, value) =
                        setting.split_once('=').ok_or_else(|| fail("a setting is KEY=VALUE".into()))?;
                    scenario.settings.push(Setting { key: key.to_owned(), value: value.to_owned() });
                }
                Some(("requires", "fresh server")) => scenario.fresh_server = true,
                Some(("requires", "disposable zookeeper")) => scenario.disposable_zookeeper = true,
                _ => {
                    let (side, code) = split_side(code).map_err(fail)?;
                    let (connection, action) = parse_action(code).map_err(fail)?;
                    scenario.steps.push(Step {
                        line: number,
                        side,
                        connection: connection.to_owned(),
                        action,
                        remark: remark.to_owned(),
                    });
                }
            }
        }
        Ok(scenario)
    }
}

fn split_side(code: &str) -> Result<(Option<Side>, &str), String> {
    let Some(marked) = code.strip_prefix('@') else { return Ok((None, code)) };
    match marked.split_once(' ') {
        Some(("zookeeper", rest)) => Ok((Some(Side::ZooKeeper), rest)),
        Some(("ostler", rest)) => Ok((Some(Side::Ostler), rest)),
        _ => Err("after @ comes zookeeper or ostler".to_owned()),
    }
}

fn parse_action(code: &str) -> Result<(&str, Action), String> {
    let (word, rest) = code.split_once(' ').ok_or("a line is a word and its arguments")?;
    match (word, word.split_at_checked(word.len() - 1)) {
        ("connect", _) => Ok((connection(rest)?, Action::Connect)),
        ("close", _) => Ok((connection(rest)?, Action::Close)),
        (_, Some((name, ">"))) => Ok((connection(name)?, Action::Send(parse_chunks(rest)?))),
        (_, Some((name, "<"))) => {
            let chunks = parse_chunks(rest)?;
            check_length(&chunks)?;
            Ok((connection(name)?, Action::Receive(chunks)))
        }
        (_, Some((name, "!"))) if rest == "closed" => Ok((connection(name)?, Action::Closed)),
        _ => Err(format!("unknown line {word:?}")),
    }
}

fn connection(name: &str) -> Result<&str, String> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Ok(name);
    }
    Err(format!("a connection's name is letters and digits, not {name:?}"))
}

/// A received frame must be as long as its own first four bytes say.
fn check_length(chunks: &[Chunk]) -> Result<(), String> {
    let Some(Chunk::Literal(prefix)) = chunks.first() else {
        return Err("a received frame begins with its length".to_owned());
    };
    let length: [u8; 4] = prefix
        .as_slice()
        .try_into()
        .map_err(|_| "the length of a frame is four bytes of their own".to_owned())?;
    let body: usize = chunks[1..].iter().map(Chunk::len).sum();
    if u32::from_be_bytes(length) as usize == body {
        return Ok(());
    }
    Err(format!("the frame says {} bytes and has {body}", u32::from_be_bytes(length)))
}

fn parse_chunks(text: &str) -> Result<Vec<Chunk>, String> {
    let mut chunks = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (chunk, after) = if let Some(mask) = rest.strip_prefix('{') {
            let (mask, after) = mask.split_once('}').ok_or("a mask has no closing brace")?;
            (parse_mask(mask)?, after)
        } else {
            let (digits, after) = rest.split_at(rest.find([' ', '{']).unwrap_or(rest.len()));
            (Chunk::Literal(unhex(digits)?), after)
        };
        chunks.push(chunk);
        rest = after.trim_start();
    }
    if chunks.is_empty() { Err("no bytes".to_owned()) } else { Ok(chunks) }
}

fn parse_mask(mask: &str) -> Result<Chunk, String> {
    let unknown = || format!("unknown mask {{{mask}}}");
    if let Some(offset) = mask.strip_prefix("zxid") {
        return offset.parse().map(Chunk::Zxid).map_err(|_| unknown());
    }
    if let Some((kind, name)) = mask.split_once(':') {
        return match (kind, name) {
            (_, "") => Err(unknown()),
            ("sid", _) => Ok(Chunk::SessionId(name.to_owned())),
            ("pw", _) => Ok(Chunk::Password(name.to_owned())),
            ("time", _) => Ok(Chunk::Time(name.to_owned())),
            _ => Err(unknown()),
        };
    }
    let words: Vec<&str> = mask.split_whitespace().collect();
    match words.as_slice() {
        ["set", elements @ ..] if elements.len() > 1 => {
            elements.iter().map(|digits| unhex(digits)).collect::<Result<_, _>>().map(Chunk::Set)
        }
        ["fill", byte, count] => match (unhex(byte)?.as_slice(), count.parse()) {
            ([byte], Ok(count)) => Ok(Chunk::Fill(*byte, count)),
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

fn unhex(digits: &str) -> Result<Vec<u8>, String> {
    let nibble =
        |digit: u8| (digit as char).to_digit(16).ok_or_else(|| format!("not hexadecimal: {digits:?}"));
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(format!("not whole bytes: {digits:?}"));
    }
    let pair = |pair: &[u8]| Ok((nibble(pair[0])? * 16 + nibble(pair[1])?) as u8);
    digits.as_bytes().chunks_exact(2).map(pair).collect()
}

/// A line that is not in the format of scenario files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Line number in the file, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_settings_and_steps() {
        let text = "# what it is about\nsetting zookeeper.enforceQuota=true\nrequires fresh server\n\nconnect A\n\
                    A> 00ff {sid:A} {fill 78 3}  # hello\n@ostler A< 00000008{zxid+2}\nA! closed\n";
        let scenario = Scenario::parse(text).unwrap();
        let setting = Setting { key: "zookeeper.enforceQuota".into(), value: "true".into() };
        assert_eq!(scenario.settings, [setting]);
        assert!(scenario.fresh_server && !scenario.disposable_zookeeper);
        let step = |line, side, action, remark: &str| Step {
            line,
            side,
            connection: "A".into(),
            action,
            remark: remark.into(),
        };
        let sent = vec![Chunk::Literal(vec![0, 255]), Chunk::SessionId("A".into()), Chunk::Fill(0x78, 3)];
        let received = vec![Chunk::Literal(vec![0, 0, 0, 8]), Chunk::Zxid(2)];
        assert_eq!(
            scenario.steps,
            [
                step(5, None, Action::Connect, ""),
                step(6, None, Action::Send(sent), "hello"),
                step(7, Some(Side::Ostler), Action::Receive(received), ""),
                step(8, None, Action::Closed, ""),
            ]
        );
    }

    #[test]
    fn anything_else_is_an_error_with_its_line() {
        for bad in [
            "A> 0",
            "A> zz",
            "A> {sid:}",
            "A> {what:A}",
            "A> {zxid}",
            "A> {set 00}",
            "A> {fill 0000 1}",
            "A> {sid:A",
            "A> ",
            "A! open",
            "A? 00",
            "connect",
            "connect A B",
            "nonsense",
            "@nobody connect A",
            "setting x",
            "requires luck",
            "A< 00000002 00",
            "A< {sid:A}",
            "A< 000000",
            "é> 00",
        ] {
            let error = Scenario::parse(&format!("# first\n{bad}\n")).unwrap_err();
            assert_eq!(error.line, 2, "{bad}: {error}");
        }
    }
}
