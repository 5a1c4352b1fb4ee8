//! A second opinion: the rules of `docs/semantics.md` over a sorted map from path to znode. It is slow, copies
//! everything for a multi, computes what the tree maintains, and shares nothing with it but the types of
//! commands and answers.

use std::collections::BTreeMap;

use ostler_tree::{
    AclEntry, Command, EndCondition, Ignored, MultiResult, OpResult, Operation, Outcome, Settings, Verdict,
    Void,
};
use ostler_types::{
    Acl, AuthId, ErrorCode, EventType, Generation, NodeKind, Perms, Sequence, SessionId, Stat, Zxid,
};

#[derive(Clone, Debug, PartialEq)]
struct Znode {
    data: Option<Vec<u8>>,
    acl: Vec<Acl>,
    /// dataLength, numChildren and cversion are filled in when shown.
    stat: Stat,
    created_children: i32,
    /// -1 not a TTL znode.
    ttl_ms: i64,
    container: bool,
}

#[derive(Clone, Debug)]
struct Session {
    generation: u64,
    sequence: u64,
}

#[derive(Clone, Default)]
pub(crate) struct Model {
    znodes: BTreeMap<String, Znode>,
    sessions: BTreeMap<SessionId, Session>,
    lane: u64,
    settings: Settings,
    pub(crate) zxid: i64,
    pub(crate) time_ms: i64,
    term: u64,
    events: Vec<(EventType, String)>,
}

type Checked<T> = Result<T, ErrorCode>;

impl Model {
    pub(crate) fn new() -> Model {
        let mut model = Model { settings: Settings::default(), ..Model::default() };
        let open = vec![Acl::new(Perms::ALL, "world", "anyone")];
        for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            let znode = Znode {
                data: Some(vec![]),
                acl: open.clone(),
                stat: Stat::default(),
                created_children: 0,
                ttl_ms: -1,
                container: false,
            };
            model.znodes.insert(path.to_owned(), znode);
        }
        let config = model.znodes.get_mut("/zookeeper/config").unwrap();
        config.acl[0].perms = Perms::READ;
        config.stat.aversion = -1;
        model
    }

    pub(crate) fn begin_entry(&mut self, term: u64, time_ms: i64) {
        if term > self.term {
            self.term = term;
            self.zxid = (self.zxid / (1 << 32) + 1) * (1 << 32);
        }
        self.time_ms = self.time_ms.max(time_ms);
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.znodes.keys().cloned().collect()
    }

    pub(crate) fn shown(&self, path: &str) -> (Option<&[u8]>, &[Acl], Stat) {
        let znode = &self.znodes[path];
        (znode.data.as_deref(), &znode.acl, self.stat(path))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.znodes.iter().map(|(path, znode)| path.len() + znode.data.as_ref().map_or(0, Vec::len)).sum()
    }

    /// Different lists, the open one always among them.
    pub(crate) fn acl_lists(&self) -> usize {
        let open = Acl::new(Perms::ALL, "world", "anyone");
        let mut lists: Vec<String> = self.znodes.values().map(|znode| format!("{:?}", znode.acl)).collect();
        lists.push(format!("{:?}", [open]));
        lists.sort();
        lists.dedup();
        lists.len()
    }

    pub(crate) fn ephemerals(&self, session: SessionId) -> Vec<String> {
        let owned = self.znodes.iter().filter(|(_, znode)| znode.stat.ephemeral_owner == session);
        owned.map(|(path, _)| path.clone()).collect()
    }

    /// What the command answers, and the events of its watches.
    pub(crate) fn apply(&mut self, command: &Command<'_>) -> (Expected, Vec<(EventType, String)>) {
        self.events.clear();
        let expected = self.command(command);
        (expected, std::mem::take(&mut self.events))
    }

    fn command(&mut self, command: &Command<'_>) -> Expected {
        match command {
            Command::CreateSession { number, .. } => {
                if *number != self.lane + 1 {
                    return Expected::Ignored(Ignored::NotNextInLane);
                }
                self.lane = *number;
                self.zxid += 1;
                let session = SessionId((1 << 56) + (1 << 32) + *number as i64);
                self.sessions.insert(session, Session { generation: 1, sequence: 0 });
                Expected::Transaction(Zxid(self.zxid))
            }
            Command::Attach { session, seen, .. } => match self.sessions.get_mut(session) {
                Some(row) if row.generation == seen.0 => {
                    *row = Session { generation: seen.0 + 1, sequence: 0 };
                    Expected::Attached(row.generation)
                }
                other => Expected::AttachRefused(other.map(|row| row.generation)),
            },
            Command::EndSession { session, condition, .. } => {
                let judged = match *condition {
                    EndCondition::InSequence(generation, sequence) => {
                        self.judge(*session, generation, sequence)
                    }
                    EndCondition::StillGeneration(generation) => match self.sessions.get(session) {
                        None => Some(Void::NoSession),
                        Some(row) if row.generation != generation.0 => Some(Void::Moved),
                        Some(_) => None,
                    },
                    EndCondition::Always if self.sessions.contains_key(session) => None,
                    EndCondition::Always => Some(Void::NoSession),
                };
                if let Some(void) = judged {
                    return Expected::Void(void);
                }
                self.zxid += 1;
                for path in self.ephemerals(*session) {
                    self.remove(&path);
                }
                self.sessions.remove(session);
                Expected::Transaction(Zxid(self.zxid))
            }
            Command::Write { session, generation, sequence, auth, operation } => {
                if let Some(void) = self.judge(*session, *generation, *sequence) {
                    return Expected::Void(void);
                }
                self.sessions.get_mut(session).unwrap().sequence += 1;
                self.zxid += 1;
                Expected::Write(Zxid(self.zxid), self.operation(*session, auth, operation))
            }
            Command::Refused { session, generation, sequence, error } => {
                if let Some(void) = self.judge(*session, *generation, *sequence) {
                    return Expected::Void(void);
                }
                self.sessions.get_mut(session).unwrap().sequence += 1;
                self.zxid += 1;
                Expected::Write(Zxid(self.zxid), Err(*error))
            }
            Command::Clean { path, czxid, mzxid } => {
                let never_used = self.settings.container_max_never_used_ms;
                let idle = self.znodes.get(*path).is_some_and(|znode| {
                    let age = self.time_ms - znode.stat.mtime;
                    let old = if znode.container {
                        znode.created_children > 0 || (never_used > 0 && age > never_used)
                    } else {
                        znode.ttl_ms >= 0 && age > znode.ttl_ms
                    };
                    old && znode.stat.czxid == *czxid && znode.stat.mzxid == *mzxid
                });
                if !idle || self.child_count(path) > 0 {
                    return Expected::Ignored(Ignored::NotIdle);
                }
                self.zxid += 1;
                self.remove(path);
                Expected::Transaction(Zxid(self.zxid))
            }
            Command::Configure(settings) => {
                self.settings = *settings;
                Expected::Configured
            }
            Command::RegisterBoot { .. }
            | Command::Bootstrap { .. }
            | Command::AdoptMembers { .. }
            | Command::FinishReconfig { .. }
            | Command::AbandonReconfig { .. }
            | Command::BeginReplace { .. } => unreachable!("not generated"),
        }
    }

    fn judge(&self, session: SessionId, generation: Generation, sequence: Sequence) -> Option<Void> {
        let Some(row) = self.sessions.get(&session) else { return Some(Void::NoSession) };
        if generation.0 != row.generation {
            Some(if generation.0 < row.generation { Void::Moved } else { Void::Gap })
        } else if sequence.0 == row.sequence + 1 {
            None
        } else {
            Some(if sequence.0 <= row.sequence { Void::Duplicate } else { Void::Gap })
        }
    }

    fn operation(&mut self, who: SessionId, auth: &[AuthId], operation: &Operation<'_>) -> Checked<OpResult> {
        match operation {
            Operation::Create { path, data, acl, flags, kind, want_stat } => {
                let path = self.create(who, auth, path, *data, acl.as_deref(), *flags, *kind)?;
                let mut stat = self.stat(&path);
                // Statistics are recounted after the answer's Stat is taken.
                stat.data_length = data.map_or(0, <[u8]>::len) as i32;
                Ok(OpResult::Created { path: path.into(), stat: want_stat.then_some(stat) })
            }
            Operation::Delete { path, version } => {
                let slash =
                    path.rfind('/').filter(|_| !path.contains('\0')).ok_or(ErrorCode::BadArguments)?;
                if ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].contains(path) {
                    return Err(ErrorCode::BadArguments);
                }
                self.allowed(&self.key(&path[..slash])?, Perms::DELETE, auth)?;
                let key = self.key(path)?;
                if *version != -1 && self.znodes[&key].stat.version != *version {
                    return Err(ErrorCode::BadVersion);
                }
                if self.child_count(&key) > 0 {
                    return Err(ErrorCode::NotEmpty);
                }
                self.remove(&key);
                Ok(OpResult::Deleted)
            }
            Operation::SetData { path, data, version } => {
                let key = self.valid(path)?;
                self.allowed(&key, Perms::WRITE, auth)?;
                let len = |data: Option<&[u8]>| data.map_or(0, <[u8]>::len) as i64;
                let growth = len(*data) - len(self.znodes[&key].data.as_deref());
                self.quota_allows(&key, 0, growth)?;
                let (zxid, time_ms) = (self.zxid, self.time_ms);
                let znode = self.znodes.get_mut(&key).unwrap();
                if *version != -1 && znode.stat.version != *version {
                    return Err(ErrorCode::BadVersion);
                }
                znode.data = data.map(<[u8]>::to_vec);
                znode.stat.version += 1;
                znode.stat.mzxid = Zxid(zxid);
                znode.stat.mtime = time_ms;
                let stat = self.stat(&key);
                self.charge(&key, 0, growth);
                self.events.push((EventType::NodeDataChanged, key));
                Ok(OpResult::DataSet(stat))
            }
            Operation::SetAcl { path, acl, version } => {
                if !is_valid(path) {
                    return Err(ErrorCode::BadArguments);
                }
                let acl = fixed_up(acl.as_deref(), auth)?;
                let key = self.key(path)?;
                self.allowed(&key, Perms::ADMIN, auth)?;
                let znode = self.znodes.get_mut(&key).unwrap();
                if *version != -1 && znode.stat.aversion != *version {
                    return Err(ErrorCode::BadVersion);
                }
                znode.acl = acl;
                znode.stat.aversion += 1;
                Ok(OpResult::AclSet(self.stat(&key)))
            }
            Operation::Check { path, version } => {
                let key = self.valid(path)?;
                self.allowed(&key, Perms::READ, auth)?;
                if *version != -1 && self.znodes[&key].stat.version != *version {
                    return Err(ErrorCode::BadVersion);
                }
                Ok(OpResult::Checked)
            }
            Operation::Multi(operations) => {
                let before = self.clone();
                let mut results = Vec::new();
                for operation in operations {
                    match self.operation(who, auth, operation) {
                        Ok(result) => results.push(MultiResult::Done(result)),
                        Err(error) => {
                            *self = before;
                            let mut failed = vec![MultiResult::RolledBack; results.len()];
                            failed.push(MultiResult::Failed(error));
                            let skipped = MultiResult::Failed(ErrorCode::RuntimeInconsistency);
                            failed.resize(operations.len(), skipped);
                            return Ok(OpResult::Multi(failed));
                        }
                    }
                }
                Ok(OpResult::Multi(results))
            }
            Operation::Reconfig(_) => Err(ErrorCode::ReconfigDisabled),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of the request")]
    fn create(
        &mut self,
        who: SessionId,
        auth: &[AuthId],
        path: &str,
        data: Option<&[u8]>,
        acl: Option<&[AclEntry<'_>]>,
        flags: i32,
        kind: NodeKind,
    ) -> Checked<String> {
        if !(0..=6).contains(&flags) {
            return Err(ErrorCode::BadArguments);
        }
        let ttl_mode = flags == 5 || flags == 6;
        if ttl_mode && !self.settings.extended_types_enabled {
            return Err(ErrorCode::Unimplemented);
        }
        match (kind, ttl_mode) {
            (NodeKind::Ttl(ttl), true) if (1..1 << 40).contains(&ttl) => {}
            (NodeKind::Ttl(_), _) | (_, true) => return Err(ErrorCode::BadArguments),
            (NodeKind::Plain | NodeKind::Container, false) => {}
        }
        if !path.contains('/') || path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let acl = fixed_up(acl, auth)?;
        let parent = self.key(&path[..path.rfind('/').unwrap()])?;
        self.allowed(&parent, Perms::CREATE, auth)?;
        let mut path = path.to_owned();
        if [2, 3, 6].contains(&flags) {
            path += &format!("{:010}", self.znodes[&parent].created_children);
        }
        if !is_valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        if self.znodes.contains_key(&path) {
            return Err(ErrorCode::NodeExists);
        }
        if self.znodes[&parent].stat.ephemeral_owner != SessionId::NONE {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let bytes = data.map_or(0, <[u8]>::len) as i64;
        self.quota_allows(&path, 1, bytes)?;

        let zxid = Zxid(self.zxid);
        let ephemeral = kind == NodeKind::Plain && (flags == 1 || flags == 3);
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: self.time_ms,
            mtime: self.time_ms,
            ephemeral_owner: if ephemeral { who } else { SessionId::NONE },
            ..Stat::default()
        };
        let ttl_ms = if let NodeKind::Ttl(ttl_ms) = kind { ttl_ms } else { -1 };
        let container = kind == NodeKind::Container;
        let data = data.map(<[u8]>::to_vec);
        let znode = Znode { data, acl, stat, created_children: 0, ttl_ms, container };
        self.znodes.insert(path.clone(), znode);
        let above = self.znodes.get_mut(&parent).unwrap();
        above.created_children += 1;
        above.stat.pzxid = zxid;
        if let Some(subtree) = quota_subtree(&path, "/zookeeper_stats") {
            let within = |other: &str| other == subtree || other.starts_with(&format!("{subtree}/"));
            let counted = self.znodes.iter().filter(|(other, _)| within(other));
            let (count, sum) = counted.fold((0, 0), |(count, sum), (_, znode)| {
                (count + 1, sum + znode.data.as_ref().map_or(0, Vec::len))
            });
            self.znodes.get_mut(&path).unwrap().data = Some(format!("count={count},bytes={sum}").into());
        }
        self.charge(&path, 1, bytes);
        self.events.push((EventType::NodeCreated, path.clone()));
        self.events.push((EventType::NodeChildrenChanged, parent));
        Ok(path)
    }

    fn remove(&mut self, path: &str) {
        let znode = self.znodes.remove(path).unwrap();
        let parent = parent(path);
        self.znodes.get_mut(&parent).unwrap().stat.pzxid = Zxid(self.zxid);
        self.charge(path, -1, -(znode.data.map_or(0, |data| data.len()) as i64));
        self.events.push((EventType::NodeDeleted, path.to_owned()));
        self.events.push((EventType::NodeChildrenChanged, parent));
    }

    /// The subtree whose quota governs `path`: the deepest one with limits.
    fn governing(&self, path: &str) -> Option<String> {
        let limited = self.znodes.keys().filter_map(|key| quota_subtree(key, "/zookeeper_limits"));
        limited
            .filter(|subtree| path == subtree || path.starts_with(&format!("{subtree}/")))
            .max_by_key(String::len)
    }

    fn quota_allows(&self, path: &str, count: i64, bytes: i64) -> Checked<()> {
        let Some(subtree) = self.governing(path).filter(|_| self.settings.enforce_quota) else {
            return Ok(());
        };
        let text = |name: &str| self.znodes.get(&format!("/zookeeper/quota{subtree}/{name}"));
        let (Some(limits), Some(stats)) = (text("zookeeper_limits"), text("zookeeper_stats")) else {
            return Ok(());
        };
        for (change, used, limit) in [(count, "count", "countHardLimit"), (bytes, "bytes", "byteHardLimit")] {
            let limit = number(&limits.data, limit);
            if change != 0 && limit > -1 && number(&stats.data, used) + change > limit {
                return Err(ErrorCode::QuotaExceeded);
            }
        }
        Ok(())
    }

    fn charge(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(subtree) = self.governing(path) else { return };
        let Some(stats) = self.znodes.get_mut(&format!("/zookeeper/quota{subtree}/zookeeper_stats")) else {
            return;
        };
        let new = |key, change| number(&stats.data, key) + change;
        let mut text = format!("count={},bytes={}", new("count", count), new("bytes", bytes));
        let more: Vec<String> = ["byteHardLimit", "countHardLimit"]
            .into_iter()
            .filter(|key| number(&stats.data, key) != -1)
            .map(|key| format!(";{key}={}", number(&stats.data, key)))
            .collect();
        if !more.is_empty() {
            text += &format!("={}", more.concat());
        }
        stats.data = Some(text.into());
    }

    fn allowed(&self, path: &str, wanted: Perms, auth: &[AuthId]) -> Checked<()> {
        let is_super = auth.iter().any(|id| id.scheme == "super");
        let granted = self.znodes[path].acl.iter().any(|entry| {
            entry.perms.intersects(wanted) && (entry.id.scheme == "world" || auth.contains(&entry.id))
        });
        if self.settings.skip_acl || is_super || granted { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    fn valid(&self, path: &str) -> Checked<String> {
        if is_valid(path) { self.key(path) } else { Err(ErrorCode::BadArguments) }
    }

    fn key(&self, path: &str) -> Checked<String> {
        let key = if path.is_empty() { "/" } else { path };
        if self.znodes.contains_key(key) { Ok(key.to_owned()) } else { Err(ErrorCode::NoNode) }
    }

    fn child_count(&self, path: &str) -> i32 {
        self.znodes.keys().filter(|other| *other != "/" && parent(other) == path).count() as i32
    }

    fn stat(&self, path: &str) -> Stat {
        let znode = &self.znodes[path];
        let num_children = self.child_count(path);
        let data_length = znode.data.as_ref().map_or(0, Vec::len) as i32;
        let cversion = 2 * znode.created_children - num_children;
        Stat { num_children, data_length, cversion, ..znode.stat }
    }
}

/// The parts of an outcome that the model predicts.
#[derive(Debug, PartialEq)]
pub(crate) enum Expected {
    Transaction(Zxid),
    Write(Zxid, Checked<OpResult>),
    Attached(u64),
    AttachRefused(Option<u64>),
    Void(Void),
    Ignored(Ignored),
    Configured,
}

impl Expected {
    pub(crate) fn of(outcome: Outcome) -> Expected {
        match outcome {
            Outcome::Write(Verdict::Applied { zxid, result, .. }) => Expected::Write(zxid, result),
            Outcome::Write(Verdict::Void(void)) | Outcome::EndVoid { reason: void, .. } => {
                Expected::Void(void)
            }
            Outcome::SessionCreated { zxid, .. }
            | Outcome::SessionEnded { zxid, .. }
            | Outcome::Cleaned { zxid } => Expected::Transaction(zxid),
            Outcome::Attached { generation, .. } => Expected::Attached(generation.0),
            Outcome::AttachRefused { current, .. } => Expected::AttachRefused(current.map(|g| g.0)),
            Outcome::Ignored(ignored) => Expected::Ignored(ignored),
            Outcome::Configured => Expected::Configured,
            Outcome::BootRegistered { .. }
            | Outcome::Bootstrapped { .. }
            | Outcome::Write(Verdict::Pending)
            | Outcome::MembersAdopted { .. }
            | Outcome::Reconfigured { .. }
            | Outcome::ReplaceBegun { .. }
            | Outcome::ReplaceEnded { .. } => unreachable!("not generated"),
        }
    }
}

fn parent(path: &str) -> String {
    let slash = path.rfind('/').unwrap();
    if slash == 0 { "/".to_owned() } else { path[..slash].to_owned() }
}

/// Enough of the rules for the paths that are generated.
fn is_valid(path: &str) -> bool {
    path == "/"
        || path.starts_with('/') && path.split('/').skip(1).all(|name| !["", ".", ".."].contains(&name))
}

fn quota_subtree(path: &str, name: &str) -> Option<String> {
    let subtree = path.strip_prefix("/zookeeper/quota")?.strip_suffix(name)?;
    subtree.starts_with('/').then(|| subtree.to_owned())
}

fn number(text: &Option<Vec<u8>>, key: &str) -> i64 {
    let text = std::str::from_utf8(text.as_deref().unwrap_or(b"")).unwrap();
    let pair = text.split([',', ';']).map(|pair| pair.trim_end_matches('='));
    pair.filter_map(|pair| pair.split_once('='))
        .find(|(k, _)| *k == key)
        .map_or(-1, |(_, v)| v.parse().unwrap())
}

fn fixed_up(acl: Option<&[AclEntry<'_>]>, auth: &[AuthId]) -> Checked<Vec<Acl>> {
    let entry = acl.ok_or(ErrorCode::InvalidAcl)?[0];
    match entry.scheme.unwrap() {
        "auth" => {
            let own: Vec<Acl> = auth
                .iter()
                .filter(|id| id.scheme == "digest")
                .map(|id| Acl { perms: entry.perms, id: id.clone() })
                .collect();
            if own.is_empty() { Err(ErrorCode::InvalidAcl) } else { Ok(own) }
        }
        "nonsense" => Err(ErrorCode::InvalidAcl),
        scheme => Ok(vec![Acl::new(entry.perms, scheme, entry.id.unwrap())]),
    }
}
