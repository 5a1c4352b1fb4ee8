//! Every create with a name of its own happens at most once, and if it was acknowledged, exactly once; what was made
//! is there until it is deleted, or its session ends. Sequential names are unique and in the order of their zxids.

use std::collections::BTreeMap;

use ostler_types::SessionId;

/// What is known of a znode with a name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its create was not answered.
    MaybeMade,
    /// It was made.
    Made,
    /// Its delete was not answered.
    MaybeDeleted,
    /// It was deleted.
    Deleted,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By path: what became of it, and the session that owns it if it is ephemeral.
    named: BTreeMap<String, (Fate, SessionId)>,
    /// Sequence number by zxid.
    sequential: BTreeMap<i64, u64>,
    /// Sequential creates of which nobody knows.
    unknown: u64,
}

impl Names {
    pub(crate) fn set(&mut self, path: String, fate: Fate, owner: SessionId) {
        self.named.insert(path, (fate, owner));
    }

    /// A sequential create is acknowledged.
    pub(crate) fn numbered(&mut self, path: &str, zxid: i64) -> Result<(), String> {
        let digits = path.get(path.len().saturating_sub(10)..).unwrap_or_default();
        let Ok(number) = digits.parse::<u64>() else { return Err(format!("{path} is no sequential name")) };
        if self.sequential.insert(zxid, number).is_some() {
            return Err(format!("two sequential znodes of zxid {zxid:#x}"));
        }
        let before = self.sequential.range(..zxid).next_back();
        let after = self.sequential.range(zxid + 1..).next();
        if before.is_some_and(|(_, &other)| other >= number)
            || after.is_some_and(|(_, &other)| other <= number)
        {
            return Err(format!("{path}, of zxid {zxid:#x}, is out of order"));
        }
        Ok(())
    }

    pub(crate) fn numbered_perhaps(&mut self) {
        self.unknown += 1;
    }

    /// What there is at the end.
    pub(crate) fn finish(
        &self,
        exists: impl Fn(&str) -> bool,
        is_ended: impl Fn(SessionId) -> bool,
        sequential: u64,
    ) -> Result<(), String> {
        for (path, &(fate, owner)) in &self.named {
            let must_be = match fate {
                Fate::MaybeMade | Fate::MaybeDeleted => None,
                Fate::Made => Some(true),
                Fate::Deleted => Some(false),
            };
            let must_be = if owner != SessionId::NONE && is_ended(owner) { Some(false) } else { must_be };
            if must_be.is_some_and(|must_be| must_be != exists(path)) {
                let what = if exists(path) { "is still there" } else { "is gone" };
                return Err(format!("{path} ({fate:?}, session {owner}) {what}"));
            }
        }
        let acknowledged = self.sequential.len() as u64;
        if !(acknowledged..=acknowledged + self.unknown).contains(&sequential) {
            return Err(format!(
                "{acknowledged} sequential creates were acknowledged and {} not answered, but there are {sequential} znodes",
                self.unknown
            ));
        }
        Ok(())
    }
}
