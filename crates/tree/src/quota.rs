//! Quotas (semantics, "Quotas"): limits and statistics are znodes below `/zookeeper/quota`, written as text.

use std::collections::BTreeSet;
use std::ops::Bound;

/// Where quotas live.
const QUOTA_ROOT: &str = "/zookeeper/quota";
/// Name of the znode with the limits of a subtree.
const LIMITS: &str = "zookeeper_limits";
/// Name of the znode with the statistics of a subtree.
const STATS: &str = "zookeeper_stats";

/// What kind of quota znode a path names, and for which subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuotaNode<'a> {
    /// `zookeeper_limits` of this subtree.
    Limits(&'a str),
    /// `zookeeper_stats` of this subtree.
    Stats(&'a str),
}

impl<'a> QuotaNode<'a> {
    /// The quota znode at `path`, if it is one. The subtree "" (a quota on the root) is not supported.
    pub(crate) fn at(path: &'a str) -> Option<QuotaNode<'a>> {
        let (subtree, name) = path.strip_prefix(QUOTA_ROOT)?.rsplit_once('/')?;
        if !subtree.starts_with('/') {
            return None;
        }
        match name {
            LIMITS => Some(QuotaNode::Limits(subtree)),
            STATS => Some(QuotaNode::Stats(subtree)),
            _ => None,
        }
    }
}

/// Path of the limits of a subtree.
pub(crate) fn limits_path(subtree: &str) -> String {
    format!("{QUOTA_ROOT}{subtree}/{LIMITS}")
}

/// Path of the statistics of a subtree.
pub(crate) fn stats_path(subtree: &str) -> String {
    format!("{QUOTA_ROOT}{subtree}/{STATS}")
}

/// The subtrees that have limits.
#[derive(Default)]
pub(crate) struct QuotaPaths(BTreeSet<Box<str>>);

impl QuotaPaths {
    pub(crate) fn add(&mut self, subtree: &str) {
        self.0.insert(subtree.into());
    }

    pub(crate) fn remove(&mut self, subtree: &str) {
        self.0.remove(subtree);
    }

    /// The subtrees with limits after `subtree`, in the order of their paths.
    pub(crate) fn after<'q>(&'q self, subtree: &str) -> impl Iterator<Item = &'q str> + use<'q> {
        self.0.range::<str, _>((Bound::Excluded(subtree), Bound::Unbounded)).map(|subtree| &**subtree)
    }

    /// The deepest subtree with limits that `path` is in, its top included. Only that one is charged.
    pub(crate) fn governing<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.0.is_empty() {
            return None;
        }
        let mut prefix = path;
        while !prefix.is_empty() {
            if self.0.contains(prefix) {
                return Some(prefix);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
        None
    }
}

/// The text of a limits or statistics znode. Unset values are -1, as are those that cannot be read: the znodes
/// belong to clients, who can write anything into them (Apache ZooKeeper fails on such text while applying). Unknown
/// keys are dropped, where Apache ZooKeeper copies them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuotaText {
    pub(crate) count: i64,
    pub(crate) bytes: i64,
    pub(crate) count_hard_limit: i64,
    pub(crate) byte_hard_limit: i64,
}

impl QuotaText {
    pub(crate) fn new(count: i64, bytes: i64) -> Self {
        QuotaText { count, bytes, count_hard_limit: -1, byte_hard_limit: -1 }
    }

    pub(crate) fn parse(data: Option<&[u8]>) -> Self {
        let mut text = QuotaText::new(-1, -1);
        let data = String::from_utf8_lossy(data.unwrap_or_default());
        for pair in data.split([',', ';']) {
            let mut parts = pair.split('=');
            let (Some(key), Some(value)) = (parts.next(), parts.next()) else { continue };
            let value = value.parse().unwrap_or(-1);
            match key {
                "count" => text.count = value,
                "bytes" => text.bytes = value,
                "countHardLimit" => text.count_hard_limit = value,
                "byteHardLimit" => text.byte_hard_limit = value,
                _ => {}
            }
        }
        text
    }

    /// `count=1,bytes=2`, and after an odd "=" that hides them from old parsers, the hard limits that are set.
    pub(crate) fn format(&self) -> String {
        let mut text = format!("count={},bytes={}", self.count, self.bytes);
        let hard = [("byteHardLimit", self.byte_hard_limit), ("countHardLimit", self.count_hard_limit)];
        let mut separator = "=;";
        for (key, value) in hard.into_iter().filter(|&(_, value)| value != -1) {
            text.push_str(separator);
            text.push_str(key);
            text.push('=');
            text.push_str(&value.to_string());
            separator = ";";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_read_and_written_as_zookeeper_does() {
        for (text, written) in [
            ("count=3,bytes=40", "count=3,bytes=40"),
            (
                "count=3,bytes=40=;byteHardLimit=9;countHardLimit=7",
                "count=3,bytes=40=;byteHardLimit=9;countHardLimit=7",
            ),
            ("bytes=,count=5", "count=5,bytes=-1"),
            ("", "count=-1,bytes=-1"),
            ("count=1,;,bytes=2;zz=1;countHardLimit=2", "count=1,bytes=2=;countHardLimit=2"),
            ("nonsense", "count=-1,bytes=-1"),
            ("count=x,bytes=99999999999999999999", "count=-1,bytes=-1"),
        ] {
            assert_eq!(QuotaText::parse(Some(text.as_bytes())).format(), written, "{text:?}");
        }
        assert_eq!(QuotaText::parse(Some(b"\xff\xfe")), QuotaText::new(-1, -1));
        assert_eq!(QuotaText::parse(None), QuotaText::new(-1, -1));
    }

    #[test]
    fn the_deepest_subtree_governs() {
        let mut paths = QuotaPaths::default();
        assert_eq!(paths.governing("/a/b"), None);
        paths.add("/a");
        paths.add("/a/b/c");
        assert_eq!(paths.governing("/a"), Some("/a"));
        assert_eq!(paths.governing("/a/b"), Some("/a"));
        assert_eq!(paths.governing("/a/b/c/d"), Some("/a/b/c"));
        assert_eq!(paths.governing("/ab"), None, "components, not characters");
        assert_eq!(paths.governing("/"), None);
        assert_eq!(paths.after("").collect::<Vec<_>>(), ["/a", "/a/b/c"]);
        assert_eq!(paths.after("/a").collect::<Vec<_>>(), ["/a/b/c"]);
        assert_eq!(paths.after("/a/b/c").count(), 0);
        paths.remove("/a");
        assert_eq!(paths.governing("/a/b"), None);
    }

    #[test]
    fn quota_znodes_are_told_by_their_path() {
        for (path, expected) in [
            ("/zookeeper/quota/a/b/zookeeper_limits", Some(QuotaNode::Limits("/a/b"))),
            ("/zookeeper/quota/a/zookeeper_stats", Some(QuotaNode::Stats("/a"))),
            ("/zookeeper/quota/zookeeper_limits", None),
            ("/zookeeper/quotas/a/zookeeper_limits", None),
            ("/zookeeper/quota/a", None),
            ("/zookeeper_limits", None),
        ] {
            assert_eq!(QuotaNode::at(path), expected, "{path}");
        }
    }
}
