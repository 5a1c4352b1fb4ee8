//! The language of the transcripts.
//!
//! | command | does |
//! |---|---|
//! | `boot SERVER BOOT [nonce=N]` | RegisterBoot |
//! | `session NAME SERVER BOOT NUMBER [timeout=MS]` | CreateSession, and remembers its id as NAME |
//! | `as NAME [SCHEME:ID ...]` | later writes come from this session with these identities |
//! | `entry [term=N] [time=MS]` | begins the next log entry |
//! | `[@GENERATION.SEQUENCE] create PATH [data=] [acl=] [flags=] [container] [ttl=] [stat]` | and so on for `delete`, `set`, `setacl`, `check`, `reconfig`, `refused ERROR`; without `@` the next number |
//! | `multi`, then lines `- OPERATION`, then `.` | a multi |
//! | `attach NAME seen=N [timeout=] [server=]` | Attach |
//! | `close NAME GENERATION SEQUENCE`, `expire NAME GENERATION`, `kill NAME` | EndSession |
//! | `clean PATH [czxid=] [mzxid=]`, `candidates NOW` | the cleaner |
//! | `configure KEY=VALUE ...`, `bootstrap ZXID` | settings, start zxid |
//! | `found [SERVER=NODE/LINE ...] [time=MS]` | begins anew with a founded state; NODE `-` is unknown, those that vote are the voters |
//! | `adopt [SERVER=NODE/LINE ...]` | AdoptMembers |
//! | `[@G.S] reconfig [joining=] [leaving=] [members=] [from=HEX]` | a client's reconfig |
//! | `voter NODE [SERVER]`, `learner NODE [SERVER]`, `remove NODE [SERVER]` | a membership entry |
//! | `replace SERVER NODE`, `finish INDEX`, `abandon INDEX ERROR` | BeginReplace, FinishReconfig, AbandonReconfig |
//! | `members`, `next LEADER [come=SERVER:NODE,...] [behind=NODE,...] [await]` | the membership, the leader's next step |
//! | `get PATH`, `ls PATH`, `getacl PATH`, `ephemerals NAME`, `row NAME`, `figures` | reads |
//!
//! Words may be quoted (`"a b\0"`, with Rust's escapes); ACLs are `SCHEME:ID:PERMS` with a decimal number,
//! separated by commas, or `null` or `empty`; a scheme or id of `null` is a null string.

use std::collections::BTreeMap;
use std::fmt::Write;

use ostler_tree::{
    AclEntry, Change, CleanerCursor, Command, EndCause, EndCondition, LastWrite, Member, Membership,
    MembershipChange, MultiResult, OpResult, Operation, Outcome, PendingChange, PendingReconfig,
    ReconfigRequest, Settings, State, Verdict,
};
use ostler_types::member::ServerSpec;
use ostler_types::{
    Acl, AuthId, ErrorCode, Generation, LogIndex, NodeKind, Perms, Sequence, SessionId, Stat, Term, Zxid,
};

/// Runs a script and returns it with fresh output.
pub(crate) fn run(script: &str) -> String {
    let mut runner = Runner::default();
    let mut transcript = String::new();
    let mut lines = script.lines().filter(|line| !line.starts_with("  ")).peekable();
    while let Some(line) = lines.next() {
        writeln!(transcript, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut operations = Vec::new();
        if line.ends_with("multi") {
            for line in lines.by_ref() {
                writeln!(transcript, "{line}").unwrap();
                if line == "." {
                    break;
                }
                operations.push(Words::new(line.strip_prefix("- ").expect(line)));
            }
        }
        let mut output = Vec::new();
        runner.command(&Words::new(line), &operations, &mut output);
        runner.check_digests(line);
        for line in output {
            writeln!(transcript, "  {line}").unwrap();
        }
    }
    transcript
}

struct Words(Vec<String>);

impl Words {
    fn new(line: &str) -> Words {
        let mut words = Vec::new();
        let mut chars = line.chars().peekable();
        while chars.peek().is_some() {
            let (mut word, mut quoted) = (String::new(), false);
            while let Some(c) = chars.next_if(|&c| quoted || c != ' ') {
                match c {
                    '"' => quoted = !quoted,
                    '\\' if quoted => match chars.next().unwrap() {
                        '0' => word.push('\0'),
                        'u' => {
                            let code: String = chars.by_ref().skip(1).take_while(|&c| c != '}').collect();
                            word.push(char::from_u32(u32::from_str_radix(&code, 16).unwrap()).unwrap());
                        }
                        other => panic!("escape {other:?} in {line}"),
                    },
                    c => word.push(c),
                }
            }
            words.push(word);
            while chars.next_if_eq(&' ').is_some() {}
        }
        Words(words)
    }

    fn at(&self, at: usize) -> &str {
        self.0.get(at).unwrap_or_else(|| panic!("word {at} is missing in {:?}", self.0))
    }

    fn number(&self, at: usize) -> u64 {
        self.at(at).parse().unwrap()
    }

    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|other| other == word)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, key: &str, default: T) -> T {
        self.value(key).map_or(default, |value| value.parse().unwrap())
    }
}

#[derive(Default)]
struct Runner {
    state: State,
    index: u64,
    sessions: BTreeMap<String, SessionId>,
    current: String,
    auth: Vec<AuthId>,
}

impl Runner {
    fn command(&mut self, words: &Words, operations: &[Words], output: &mut Vec<String>) {
        let first = words.at(0);
        if let Some(number) = first.strip_prefix('@') {
            let (generation, sequence) = number.split_once('.').unwrap();
            let number = (generation.parse().unwrap(), sequence.parse().unwrap());
            return self.write(Some(number), &Words(words.0[1..].to_vec()), operations, output);
        }
        let command = match first {
            "entry" => {
                self.index += 1;
                let term = Term(words.parsed("term", self.state.last_term().0.max(1)));
                let time_ms = words.parsed("time", self.state.time_ms());
                self.state.begin_entry(term, LogIndex(self.index), time_ms);
                let (zxid, time_ms) = (self.state.last_zxid(), self.state.time_ms());
                return output.push(format!("index={} zxid={zxid} time={time_ms}", self.index));
            }
            "as" => {
                self.current = words.at(1).to_owned();
                self.auth = words.0[2..]
                    .iter()
                    .map(|word| {
                        let (scheme, id) = word.split_once(':').unwrap();
                        AuthId::new(scheme, id)
                    })
                    .collect();
                return;
            }
            "boot" => Command::RegisterBoot {
                server: words.number(1) as u8,
                boot: words.number(2) as u32,
                nonce: words.parsed("nonce", 0),
            },
            "found" => {
                let members = self::members(words);
                let voters = members.values().filter(|member| member.spec.votes());
                let voters = voters.filter_map(|member| member.node).collect();
                self.state = State::founded(0, members, voters, words.parsed("time", 0));
                self.index = 1;
                return output.extend(show_membership(self.state.membership()));
            }
            "adopt" => Command::AdoptMembers { members: members(words) },
            "voter" | "learner" | "remove" => {
                let node = words.number(1);
                let change = match first {
                    "voter" => MembershipChange::AddVoter { node },
                    "learner" => MembershipChange::AddLearner { node },
                    _ => MembershipChange::Remove { node },
                };
                let server = words.0.get(2).map(|server| server.parse().unwrap());
                let took_effect = self.state.apply_membership(change, server);
                return output.push(if took_effect { "done" } else { "refused" }.to_owned());
            }
            "replace" => Command::BeginReplace { server: words.number(1) as u8, node: words.number(2) },
            "finish" => Command::FinishReconfig { begun: LogIndex(words.number(1)) },
            "abandon" => {
                Command::AbandonReconfig { begun: LogIndex(words.number(1)), error: error(words.at(2)) }
            }
            "members" => return output.extend(show_membership(self.state.membership())),
            "next" => {
                let list = |key| words.value(key).into_iter().flat_map(|list| list.split(','));
                let behind: Vec<u64> = list("behind").map(|node| node.parse().unwrap()).collect();
                let come: BTreeMap<u8, u64> = list("come")
                    .map(|pair| pair.split_once(':').unwrap())
                    .map(|(server, node)| (server.parse().unwrap(), node.parse().unwrap()))
                    .collect();
                let step = self.state.membership().next_step(
                    words.number(1),
                    |server| come.get(&server).copied(),
                    |node| !behind.contains(&node),
                    words.has("await"),
                );
                return output.push(format!("{step:?}"));
            }
            "session" => Command::CreateSession {
                server: words.number(2) as u8,
                boot: words.number(3) as u32,
                number: words.number(4),
                timeout_ms: words.parsed("timeout", 10_000),
                secret_hash: [7; 32],
            },
            "attach" => Command::Attach {
                session: self.session(words.at(1)),
                seen: Generation(words.parsed("seen", 1)),
                timeout_ms: words.parsed("timeout", 10_000),
                server: words.parsed("server", 1),
            },
            "close" => {
                let number = (Generation(words.number(2)), Sequence(words.number(3)));
                self.end(words.at(1), EndCondition::InSequence(number.0, number.1), EndCause::Closed)
            }
            "expire" => {
                let condition = EndCondition::StillGeneration(Generation(words.number(2)));
                self.end(words.at(1), condition, EndCause::Expired)
            }
            "kill" => self.end(words.at(1), EndCondition::Always, EndCause::Killed),
            "clean" => {
                let stat = self.state.lookup(words.at(1)).map(|znode| znode.stat()).unwrap_or_default();
                Command::Clean {
                    path: words.at(1),
                    czxid: words.value("czxid").map_or(stat.czxid, zxid),
                    mzxid: words.value("mzxid").map_or(stat.mzxid, zxid),
                }
            }
            "configure" => {
                let mut settings = *self.state.settings();
                configure(&mut settings, &words.0[1..]);
                Command::Configure(settings)
            }
            "bootstrap" => Command::Bootstrap { zxid: zxid(words.at(1)) },
            "candidates" => {
                let mut found = Vec::new();
                let now_ms = words.number(1) as i64;
                let mut cursor = Some(CleanerCursor::default());
                while let Some(at) = cursor {
                    cursor = self.state.cleaner_candidates(now_ms, at, 2, &mut found);
                }
                return output.extend(found.into_iter().map(|found| found.path));
            }
            "get" | "ls" | "getacl" | "ephemerals" | "row" | "figures" => {
                return output.extend(self.read(words));
            }
            _ => return self.write(None, words, operations, output),
        };
        let mut changes = Vec::new();
        let outcome = self.state.apply(&command, Some(&mut changes));
        if let Outcome::SessionCreated { session, .. } = outcome {
            self.sessions.insert(words.at(1).to_owned(), session);
        }
        output.push(show_outcome(&outcome));
        output.extend(changes.iter().map(show_change));
    }

    fn write(
        &mut self,
        number: Option<(u64, u64)>,
        words: &Words,
        operations: &[Words],
        output: &mut Vec<String>,
    ) {
        let session = self.session(&self.current);
        let row = self.state.session(session);
        let (generation, sequence) = number
            .or(row.map(|row| (row.generation.0, row.sequence.0 + 1)))
            .map(|(generation, sequence)| (Generation(generation), Sequence(sequence)))
            .unwrap_or_default();
        let command = if words.at(0) == "refused" {
            Command::Refused { session, generation, sequence, error: error(words.at(1)) }
        } else {
            let operation = if words.at(0) == "multi" {
                Operation::Multi(operations.iter().map(operation).collect())
            } else {
                operation(words)
            };
            Command::Write { session, generation, sequence, auth: &self.auth, operation }
        };
        let mut changes = Vec::new();
        let outcome = self.state.apply(&command, Some(&mut changes));
        let Outcome::Write(verdict) = outcome else { panic!("{outcome:?}") };
        match verdict {
            Verdict::Pending => output.push("pending".to_owned()),
            Verdict::Void(void) => output.push(format!("{void:?}")),
            Verdict::Applied { zxid, result, over_quota } => {
                match result {
                    Ok(OpResult::Multi(results)) => {
                        output.push(format!("{zxid} multi"));
                        output.extend(results.iter().map(|result| match result {
                            MultiResult::Done(result) => format!("- {}", show_result(result)),
                            MultiResult::RolledBack => "- rolled back".to_owned(),
                            MultiResult::Failed(error) => format!("- {error:?}"),
                        }));
                    }
                    Ok(result) => output.push(format!("{zxid} {}", show_result(&result))),
                    Err(error) => output.push(format!("{zxid} {error:?}")),
                }
                for over in over_quota {
                    let hard = if over.hard { "hard" } else { "soft" };
                    output.push(format!(
                        "over quota {}: {:?} {} > {hard} {}",
                        over.path, over.resource, over.value, over.limit
                    ));
                }
            }
        }
        output.extend(changes.iter().map(show_change));
    }

    fn read(&self, words: &Words) -> Vec<String> {
        if words.at(0) == "figures" {
            return vec![format!(
                "nodes={} ephemerals={} size={} acls={} sessions={} zxid={}",
                self.state.node_count(),
                self.state.ephemeral_count(),
                self.state.approximate_data_size(),
                self.state.acl_list_count(),
                self.state.sessions().len(),
                self.state.last_zxid()
            )];
        }
        if words.at(0) == "row" {
            let Some(row) = self.state.session(self.session(words.at(1))) else { return vec!["none".into()] };
            let mut line = format!(
                "timeout={} server={} generation={} sequence={}",
                row.timeout_ms, row.server, row.generation, row.sequence
            );
            if let Some(LastWrite { generation, sequence, zxid, error }) = row.last_write {
                write!(line, " last={generation}.{sequence} zxid={zxid} error={error}").unwrap();
            }
            return vec![line];
        }
        if words.at(0) == "ephemerals" {
            return self.state.ephemerals_of(self.session(words.at(1)));
        }
        let Some(znode) = self.state.lookup(words.at(1)) else { return vec!["no such znode".into()] };
        match words.at(0) {
            "get" => {
                let data =
                    znode.data().map_or("null".into(), |data| format!("{:?}", String::from_utf8_lossy(data)));
                vec![data, show_stat(&znode.stat())]
            }
            "ls" => {
                let mut names: Vec<&str> = znode.children().collect();
                names.sort_unstable();
                let count = self.state.all_descendants_count(words.at(1)).unwrap();
                vec![format!("{} (below: {count})", names.join(" "))]
            }
            _ => self.state.acl_shown_to(&znode, &self.auth).iter().map(show_acl).collect(),
        }
    }

    fn end<'a>(&self, name: &str, condition: EndCondition, cause: EndCause) -> Command<'a> {
        Command::EndSession { session: self.session(name), condition, cause, last_heard_ms: 5, owner: 1 }
    }

    fn session(&self, name: &str) -> SessionId {
        *self.sessions.get(name).unwrap_or_else(|| panic!("no session {name:?}"))
    }

    fn check_digests(&self, line: &str) {
        let kept = (self.state.agreement_digest(), self.state.tree_digest());
        assert_eq!(kept, self.state.recompute_digests(), "digests after {line:?}");
    }
}

fn operation(words: &Words) -> Operation<'_> {
    let version = words.parsed("version", -1);
    let data = match words.value("data") {
        Some("null") => None,
        other => Some(other.unwrap_or("").as_bytes()),
    };
    let acl = || match words.value("acl") {
        None => Some(AclEntry::open()),
        Some("null") => None,
        Some("empty") => Some(Vec::new()),
        Some(list) => Some(list.split(',').map(acl_entry).collect()),
    };
    let path = || words.at(1);
    match words.at(0) {
        "create" => Operation::Create {
            path: path(),
            data,
            acl: acl(),
            flags: words.parsed("flags", 0),
            kind: match words.value("ttl") {
                Some(ttl) => NodeKind::Ttl(ttl.parse().unwrap()),
                None if words.has("container") => NodeKind::Container,
                None => NodeKind::Plain,
            },
            want_stat: words.has("stat"),
        },
        "delete" => Operation::Delete { path: path(), version },
        "set" => Operation::SetData { path: path(), data, version },
        "setacl" => Operation::SetAcl { path: path(), acl: acl(), version },
        "check" => Operation::Check { path: path(), version },
        "reconfig" => Operation::Reconfig(ReconfigRequest {
            joining: words.value("joining"),
            leaving: words.value("leaving"),
            new_members: words.value("members"),
            config_version: words.value("from").map_or(-1, |from| i64::from_str_radix(from, 16).unwrap()),
        }),
        "nested" => Operation::Multi(Vec::new()),
        other => panic!("unknown command {other:?}"),
    }
}

/// `SERVER=NODE/LINE` words.
fn members(words: &Words) -> BTreeMap<u8, Member> {
    let members = words.0[1..].iter().filter(|word| !word.starts_with("time="));
    members
        .map(|word| {
            let (server, rest) = word.split_once('=').unwrap();
            let (node, line) = rest.split_once('/').unwrap();
            let spec = ServerSpec::parse(line).unwrap();
            (server.parse().unwrap(), Member { node: node.parse().ok(), spec })
        })
        .collect()
}

fn show_membership(membership: &Membership) -> Vec<String> {
    let Membership { version, members, voters, learners, pending } = membership;
    let show = |members: &BTreeMap<u8, Member>| {
        let show = |(server, member): (&u8, &Member)| {
            let node = member.node.map_or("-".to_owned(), |node| node.to_string());
            format!("{server}={node}/{}", member.spec)
        };
        members.iter().map(show).collect::<Vec<_>>().join(" ")
    };
    let mut lines = vec![
        format!("version={version} voters={voters:?} learners={learners:?}"),
        format!("members: {}", show(members)),
    ];
    if let Some(PendingReconfig { begun, change }) = pending {
        lines.push(match change {
            PendingChange::Reconfig { generation, sequence, target, .. } => {
                format!("pending since {begun} for @{generation}.{sequence}: {}", show(target))
            }
            PendingChange::Replace { server, node } => {
                format!("pending since {begun}: {node} in place of {server}'s")
            }
        });
    }
    lines
}

fn error(name: &str) -> ErrorCode {
    *ErrorCode::ALL.iter().find(|error| format!("{error:?}") == name).unwrap()
}

fn acl_entry(text: &str) -> AclEntry<'_> {
    let (scheme, rest) = text.split_once(':').unwrap();
    let (id, perms) = rest.rsplit_once(':').unwrap();
    let not_null = |text| Some(text).filter(|&text| text != "null");
    AclEntry { perms: Perms(perms.parse().unwrap()), scheme: not_null(scheme), id: not_null(id) }
}

fn configure(settings: &mut Settings, assignments: &[String]) {
    for assignment in assignments {
        let (key, value) = assignment.split_once('=').unwrap();
        let flag = || value.parse().unwrap();
        match key {
            "skip_acl" => settings.skip_acl = flag(),
            "enforce_quota" => settings.enforce_quota = flag(),
            "extended_types_enabled" => settings.extended_types_enabled = flag(),
            "digest_enabled" => settings.digest_enabled = flag(),
            "standalone_enabled" => settings.standalone_enabled = flag(),
            "reconfig_enabled" => settings.reconfig_enabled = flag(),
            "container_max_never_used_ms" => {
                settings.container_max_never_used_ms = value.parse().unwrap();
            }
            other => panic!("unknown setting {other:?}"),
        }
    }
}

fn zxid(text: &str) -> Zxid {
    Zxid(i64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap())
}

fn show_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::SessionCreated { session, generation, timeout_ms, zxid } => {
            format!("{zxid} session {session} generation={generation} timeout={timeout_ms}")
        }
        Outcome::Attached { generation, timeout_ms, server, .. } => {
            format!("attached generation={generation} timeout={timeout_ms} server={server}")
        }
        Outcome::AttachRefused { current: Some(current), .. } => format!("refused: generation is {current}"),
        Outcome::AttachRefused { current: None, .. } => "refused: no such session".to_owned(),
        Outcome::SessionEnded { generation, zxid, cause, ephemerals, .. } => {
            format!("{zxid} ended generation={generation} {cause:?} ephemerals={ephemerals}")
        }
        Outcome::EndVoid { reason, .. } => format!("void: {reason:?}"),
        Outcome::MembersAdopted { zxid } => format!("{zxid} adopted"),
        Outcome::Reconfigured { generation, sequence, zxid, result, .. } => {
            let result = result.as_ref().map_or_else(|error| format!("{error:?}"), show_result);
            format!("{zxid} @{generation}.{sequence} {result}")
        }
        Outcome::Cleaned { zxid } => format!("{zxid} cleaned"),
        other => format!("{other:?}"),
    }
}

fn show_result(result: &OpResult) -> String {
    match result {
        OpResult::Created { path, stat: None } => format!("created {path:?}"),
        OpResult::Created { path, stat: Some(stat) } => format!("created {path:?} {}", show_stat(stat)),
        OpResult::Deleted => "deleted".to_owned(),
        OpResult::DataSet(stat) => format!("set {}", show_stat(stat)),
        OpResult::AclSet(stat) => format!("acl set {}", show_stat(stat)),
        OpResult::Checked => "checked".to_owned(),
        OpResult::Config { data, stat } => format!("config {data:?} {}", show_stat(stat)),
        OpResult::Multi(results) => format!("{results:?}"),
    }
}

fn show_change(change: &Change) -> String {
    let readers = if change.acl.allows(Perms::READ, &[]) {
        String::new()
    } else {
        format!(" for {}", change.acl.iter().map(show_acl).collect::<Vec<_>>().join(","))
    };
    format!("! {:?} {}{readers}", change.event, change.path)
}

fn show_acl(acl: &Acl) -> String {
    format!("{}:{}:{}", acl.id.scheme, acl.id.id, acl.perms.0)
}

fn show_stat(stat: &Stat) -> String {
    let Stat { czxid, mzxid, ctime, mtime, version, cversion, aversion, pzxid, .. } = stat;
    let Stat { ephemeral_owner, data_length, num_children, .. } = stat;
    format!(
        "[cz={czxid} mz={mzxid} pz={pzxid} ct={ctime} mt={mtime} v={version} cv={cversion} av={aversion} \
         owner={ephemeral_owner} len={data_length} children={num_children}]"
    )
}
