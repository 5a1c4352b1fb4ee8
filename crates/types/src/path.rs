//! Znode paths and their rules (protocol, "Paths"; ZooKeeper's `PathUtils.validatePath`).

use std::fmt;

/// A valid absolute znode path: "/" or slash-separated, non-empty components without `.`, `..` or
/// characters ZooKeeper forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZnodePath<'a>(&'a str);

/// Why a string is not a znode path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// No characters at all.
    Empty,
    /// The first character is not "/".
    NotAbsolute,
    /// "/" at the end of something longer.
    TrailingSlash,
    /// Two slashes in a row.
    EmptyComponent,
    /// A component is "." or "..".
    RelativeComponent,
    /// A control character, surrogate, private-use or special character at this byte offset.
    InvalidCharacter(usize),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathError::Empty => f.write_str("path is empty"),
            PathError::NotAbsolute => f.write_str("path does not start with \"/\""),
            PathError::TrailingSlash => f.write_str("path ends with \"/\""),
            PathError::EmptyComponent => f.write_str("path has an empty component"),
            PathError::RelativeComponent => f.write_str("path has a \".\" or \"..\" component"),
            PathError::InvalidCharacter(at) => {
                write!(f, "path has a forbidden character at byte {at}")
            }
        }
    }
}

impl std::error::Error for PathError {}

impl<'a> ZnodePath<'a> {
    /// "/".
    pub const ROOT: ZnodePath<'static> = ZnodePath("/");

    /// Checks `path` against every rule.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn parse(path: &'a str) -> Result<Self, PathError> {
        if path.is_empty() {
            return Err(PathError::Empty);
        }
        if !path.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        if path.len() == 1 {
            return Ok(ZnodePath(path));
        }
        if path.ends_with('/') {
            return Err(PathError::TrailingSlash);
        }
        // One pass for the common case; characters outside printable ASCII take the slow road.
        let mut component_start = 1;
        let bytes = path.as_bytes();
        for at in 1..=bytes.len() {
            if at == bytes.len() || bytes[at] == b'/' {
                match &bytes[component_start..at] {
                    b"" => return Err(PathError::EmptyComponent),
                    b"." | b".." => return Err(PathError::RelativeComponent),
                    _ => component_start = at + 1,
                }
            } else if !(0x20..0x7f).contains(&bytes[at]) {
                // Slashes and dots are ASCII: they cannot hide inside a multi-byte character.
                if let Some((offset, _)) = path.char_indices().find(|&(_, c)| !is_allowed(c)) {
                    return Err(PathError::InvalidCharacter(offset));
                }
            }
        }
        Ok(ZnodePath(path))
    }

    /// The whole path.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether this is "/".
    pub fn is_root(self) -> bool {
        self.0.len() == 1
    }

    /// The parent's path, or nothing for "/".
    pub fn parent(self) -> Option<ZnodePath<'a>> {
        let slash = self.0.rfind('/')?;
        match (self.is_root(), slash) {
            (true, _) => None,
            (false, 0) => Some(ZnodePath::ROOT),
            (false, slash) => Some(ZnodePath(&self.0[..slash])),
        }
    }

    /// The last component; empty for "/".
    pub fn name(self) -> &'a str {
        self.0.rsplit('/').next().unwrap_or("")
    }
}

impl fmt::Display for ZnodePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// ZooKeeper checks UTF-16 units; a supplementary character is a surrogate pair there and so forbidden.
fn is_allowed(c: char) -> bool {
    !matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_named_in_the_error() {
        use PathError::*;
        for (path, expected) in [
            ("", Err(Empty)),
            ("a", Err(NotAbsolute)),
            ("/", Ok(())),
            ("/a", Ok(())),
            ("/a/", Err(TrailingSlash)),
            ("//", Err(TrailingSlash)),
            ("/a//b", Err(EmptyComponent)),
            ("/./b", Err(RelativeComponent)),
            ("/a/..", Err(RelativeComponent)),
            ("/a/..b", Ok(())),
            ("/...", Ok(())),
            ("/a\u{0}", Err(InvalidCharacter(2))),
            ("/a\u{1f}", Err(InvalidCharacter(2))),
            ("/\u{7f}", Err(InvalidCharacter(1))),
            ("/\u{e4}\u{9f}", Err(InvalidCharacter(3))),
            ("/\u{a0}", Ok(())),
            ("/grün/東京", Ok(())),
            ("/\u{e000}", Err(InvalidCharacter(1))),
            ("/\u{f900}", Ok(())),
            ("/\u{fffd}", Err(InvalidCharacter(1))),
            ("/\u{1f600}", Err(InvalidCharacter(1))),
        ] {
            assert_eq!(ZnodePath::parse(path).map(|_| ()), expected, "{path:?}");
        }
    }

    #[test]
    fn parents_and_names() {
        let path = ZnodePath::parse("/a/b").unwrap();
        assert_eq!(path.name(), "b");
        let parent = path.parent().unwrap();
        assert_eq!((parent.as_str(), parent.name()), ("/a", "a"));
        assert_eq!(parent.parent(), Some(ZnodePath::ROOT));
        assert_eq!(ZnodePath::ROOT.parent(), None);
        assert_eq!(ZnodePath::ROOT.name(), "");
    }
}
