//! The way from any membership to any other: one node at a time, never without a common majority, and it ends.

use std::collections::{BTreeMap, BTreeSet};

use ostler_tree::snapshot::{Progress, Restorer};
use ostler_tree::{
    Command, Ignored, Member, MembershipChange, OpResult, Operation, Outcome, ReconfigRequest, Settings,
    State, Step, Verdict,
};
use ostler_types::member::{Role, ServerSpec, config_text};
use ostler_types::{ErrorCode, LogIndex, Sequence, Term};
use proptest::prelude::*;

const SERVERS: std::ops::RangeInclusive<u8> = 1..=6;
/// More steps than any way has.
const MANY: usize = 200;

fn spec(server: u8, role: Role) -> ServerSpec {
    ServerSpec::parse(&format!("10.0.0.{server}:2888:3888:{role};2181")).unwrap()
}

/// The disk a server begins with.
fn disk(server: u8) -> u64 {
    100 + u64::from(server)
}

/// A role for some of the servers; at least one votes.
fn roles() -> impl Strategy<Value = BTreeMap<u8, Role>> {
    let role =
        prop_oneof![3 => Just(Some(Role::Participant)), 1 => Just(Some(Role::Observer)), 2 => Just(None)];
    prop::collection::vec(role, SERVERS.count())
        .prop_map(|roles| SERVERS.zip(roles).filter_map(|(server, role)| Some((server, role?))).collect())
        .prop_filter("somebody votes", |roles: &BTreeMap<u8, Role>| {
            roles.values().any(|&role| role == Role::Participant)
        })
}

/// Membership entries of a past nobody remembers: disks of servers and strays, with and without a context.
fn past() -> impl Strategy<Value = Vec<(MembershipChange, Option<u8>)>> {
    let server = prop_oneof![3 => SERVERS.prop_map(Some), 1 => Just(None)];
    let entry = (0..3, server, 50u64..53, any::<bool>()).prop_map(|(kind, server, stray, has_context)| {
        let node = server.map_or(stray, disk);
        let change = match kind {
            0 => MembershipChange::AddVoter { node },
            1 => MembershipChange::AddLearner { node },
            _ => MembershipChange::Remove { node },
        };
        (change, server.filter(|_| has_context))
    });
    prop::collection::vec(entry, 0..8)
}

/// What a leader sees of the others.
#[derive(Clone, Debug)]
struct Weather {
    /// Servers nobody has heard of until everything waits for them.
    late: BTreeSet<u8>,
    /// How often a learner is found behind.
    lag: usize,
    /// Whether nobody leaves before all have come.
    patient: bool,
    /// Where leadership goes when it must move.
    hand: usize,
}

fn weather() -> impl Strategy<Value = Weather> {
    (prop::collection::btree_set(SERVERS, 0..4), 0usize..5, any::<bool>(), 0usize..6)
        .prop_map(|(late, lag, patient, hand)| Weather { late, lag, patient, hand })
}

/// The leader's part: takes steps until there is nothing more to do, and checks each.
struct Leader {
    node: u64,
    weather: Weather,
    disks: BTreeMap<u8, u64>,
}

impl Leader {
    fn of(state: &State, weather: &Weather) -> Leader {
        let disks = SERVERS.map(|server| (server, disk(server))).collect();
        let node = *state.membership().voters.first().unwrap();
        Leader { node, weather: weather.clone(), disks }
    }

    /// Takes up to `limit` steps; what is there to do when it stops.
    fn lead(&mut self, state: &mut State, limit: usize) -> Step {
        for _ in 0..limit {
            let step = self.next(state);
            match &step {
                Step::Idle | Step::Finish => return step,
                Step::Change { change, server } => self.change(state, *change, *server),
                Step::HandOver { to } => {
                    assert!(to.iter().all(|node| state.membership().voters.contains(node)), "{to:?}");
                    assert!(!to.contains(&self.node));
                    self.node = to[self.weather.hand % to.len()];
                }
                Step::Wait { absent, behind } => {
                    let had_come = absent.iter().all(|server| !self.weather.late.contains(server));
                    assert!(!behind.is_empty() || !had_come, "waits for nobody: {:?}", state.membership());
                    self.weather.late.clear();
                    self.weather.lag = self.weather.lag.saturating_sub(1);
                }
            }
        }
        self.next(state)
    }

    fn next(&self, state: &State) -> Step {
        let Weather { late, lag, patient, .. } = &self.weather;
        state.membership().next_step(
            self.node,
            |server| self.disks.get(&server).copied().filter(|_| !late.contains(&server)),
            |_| *lag == 0,
            *patient,
        )
    }

    fn change(&self, state: &mut State, change: MembershipChange, server: Option<u8>) {
        let before = state.membership().voters.clone();
        let members = state.membership().members.len();
        assert!(state.apply_membership(change, server), "{change:?}");
        let after = &state.membership().voters;
        assert!(before.symmetric_difference(after).count() <= 1, "one at a time");
        let majorities = before.len() / 2 + 1 + after.len() / 2 + 1;
        assert!(majorities > before.union(after).count(), "any two majorities have a node in common");
        assert!(after.contains(&self.node), "{change:?} by {} itself", self.node);
        assert!(state.membership().learners.is_disjoint(after));
        assert_eq!(state.membership().members.len(), members, "membership entries change no members");
        check_snapshot(state);
    }
}

/// The state comes back from a snapshot as it is.
fn check_snapshot(state: &mut State) {
    let mut stream = Vec::new();
    let mut walk = state.begin_snapshot_walk();
    while state.walk_slice(&mut walk, u32::MAX, &mut stream) == Progress::More {}
    state.end_snapshot_walk();
    let mut restorer = Restorer::new(0);
    restorer.feed(&stream).unwrap();
    let restored = restorer.finish().unwrap();
    assert_eq!(restored.membership(), state.membership());
    assert_eq!(restored.settings(), state.settings());
    assert_eq!(restored.agreement_digest(), state.agreement_digest());
}

/// An ensemble with such members, of whom some observers have not come yet, and such a past.
fn ensemble(roles: &BTreeMap<u8, Role>, past: &[(MembershipChange, Option<u8>)]) -> State {
    let mut members = BTreeMap::new();
    for (&server, &role) in roles {
        let node = (role == Role::Participant || server % 2 == 0).then(|| disk(server));
        members.insert(server, Member { node, spec: spec(server, role) });
    }
    let voters = members.values().filter(|member| member.spec.votes()).filter_map(|member| member.node);
    let mut state = State::founded(7, members.clone(), voters.collect(), 1_000);
    state.begin_entry(Term(2), LogIndex(2), 1_000);
    let settings =
        Settings { reconfig_enabled: true, standalone_enabled: false, skip_acl: true, ..Settings::default() };
    state.apply(&Command::Configure(settings), None);
    state.apply(&Command::RegisterBoot { server: 1, boot: 1, nonce: 1 }, None);
    let create =
        Command::CreateSession { server: 1, boot: 1, number: 1, timeout_ms: 1_000, secret_hash: [0; 32] };
    state.apply(&create, None);
    for &(change, server) in past {
        state.apply_membership(change, server);
    }
    state
}

/// A client asks for these members, by their list or by the difference.
fn ask(state: &mut State, roles: &BTreeMap<u8, Role>, by_list: bool) -> (LogIndex, Verdict) {
    let begun = state.applied_index().next();
    state.begin_entry(state.last_term(), begun, 1_000);
    let lines: Vec<String> =
        roles.iter().map(|(&server, &role)| format!("server.{server}={}", spec(server, role))).collect();
    let lines = lines.join(if by_list { "\n" } else { "," });
    let leaving: Vec<String> = SERVERS.map(|server| server.to_string()).collect();
    let leaving = leaving.join(", ");
    let request = ReconfigRequest {
        joining: (!by_list).then_some(lines.as_str()),
        leaving: (!by_list).then_some(leaving.as_str()),
        new_members: by_list.then_some(lines.as_str()),
        config_version: state.membership().version.0,
    };
    let (session, row) = state.sessions().next().unwrap();
    let (generation, sequence) = (row.generation, row.sequence.next());
    let write =
        Command::Write { session, generation, sequence, auth: &[], operation: Operation::Reconfig(request) };
    let Outcome::Write(verdict) = state.apply(&write, None) else { panic!() };
    (begun, verdict)
}

/// The members, and the roles of their nodes, are these; everybody has come.
fn assert_settled(state: &State, leader: &Leader, roles: &BTreeMap<u8, Role>) {
    let membership = state.membership();
    let nodes = |wanted| {
        let servers = roles.iter().filter(move |(_, role)| **role == wanted);
        servers.map(|(server, _)| leader.disks[server]).collect::<BTreeSet<_>>()
    };
    assert_eq!(membership.voters, nodes(Role::Participant));
    assert_eq!(membership.learners, nodes(Role::Observer));
    for (server, member) in &membership.members {
        assert_eq!(member.node, Some(leader.disks[server]));
    }
    let members: BTreeMap<u8, Role> =
        membership.members.iter().map(|(&server, member)| (server, member.spec.role)).collect();
    assert_eq!(members, *roles);
    assert_eq!(membership.pending, None);
    let config = state.lookup("/zookeeper/config").unwrap();
    let specs: Vec<_> = roles.iter().map(|(&server, &role)| (server, spec(server, role))).collect();
    let text = config_text(specs.iter().map(|(server, spec)| (*server, spec)), membership.version.0);
    assert_eq!(config.data(), Some(text.as_bytes()));
    assert_eq!(config.stat().mzxid, membership.version);
}

/// Cases per property: together they take a second without optimisation. `PROPTEST_CASES` raises them.
const CASES: u32 = 192;

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_reconfig_ends_as_asked(
        from in roles(), past in past(), to in roles(), weather in weather(), by_list in any::<bool>(),
    ) {
        let mut state = ensemble(&from, &past);
        let mut leader = Leader::of(&state, &weather);
        let zxid = state.last_zxid();
        let (begun, verdict) = ask(&mut state, &to, by_list);
        prop_assert_eq!(verdict, Verdict::Pending);
        prop_assert_eq!(leader.lead(&mut state, MANY), Step::Finish);
        prop_assert_eq!(state.last_zxid(), zxid, "on the way nothing consumes a zxid");

        let early = state.apply(&Command::FinishReconfig { begun: begun.next() }, None);
        prop_assert_eq!(early, Outcome::Ignored(Ignored::NoSuchReconfig));
        let mut changes = Vec::new();
        let outcome = state.apply(&Command::FinishReconfig { begun }, Some(&mut changes));
        let Outcome::Reconfigured { sequence, zxid: at, result, .. } = outcome else { panic!("{outcome:?}") };
        prop_assert_eq!((sequence, at), (Sequence(1), zxid.next()));
        prop_assert_eq!(state.membership().version, at);
        let config = state.lookup("/zookeeper/config").unwrap();
        let data = std::str::from_utf8(config.data().unwrap()).unwrap().into();
        prop_assert_eq!(result, Ok(OpResult::Config { data, stat: config.stat() }));
        prop_assert_eq!(changes.len(), 1);

        // Those who had not come by then join when they do.
        leader.weather = Weather { late: BTreeSet::new(), lag: 0, ..weather };
        prop_assert_eq!(leader.lead(&mut state, MANY), Step::Idle);
        assert_settled(&state, &leader, &to);
    }

    #[test]
    fn an_abandoned_reconfig_leaves_the_members(
        from in roles(), to in roles(), weather in weather(), steps in 0usize..12,
    ) {
        let mut state = ensemble(&from, &[]);
        let before = state.membership().clone();
        let mut leader = Leader::of(&state, &weather);
        let (begun, _) = ask(&mut state, &to, true);
        leader.lead(&mut state, steps);
        let zxid = state.last_zxid();
        let error = ErrorCode::NewConfigNoQuorum;
        let outcome = state.apply(&Command::AbandonReconfig { begun, error }, None);
        let Outcome::Reconfigured { zxid: at, result, .. } = outcome else { panic!("{outcome:?}") };
        prop_assert_eq!((at, result), (zxid.next(), Err(error)));
        prop_assert_eq!(state.membership().version, before.version);
        leader.weather = Weather { late: BTreeSet::new(), lag: 0, ..weather };
        prop_assert_eq!(leader.lead(&mut state, MANY), Step::Idle);
        assert_settled(&state, &leader, &from);
    }

    #[test]
    fn a_new_disk_takes_the_place_of_the_old_one(
        of in roles(), server in SERVERS, weather in weather(), abandoned in prop::option::of(0usize..4),
    ) {
        let mut state = ensemble(&of, &[]);
        let mut leader = Leader::of(&state, &weather);
        leader.disks.insert(server, 200);
        let shown = state.lookup("/zookeeper/config").unwrap().stat();
        let zxid = state.last_zxid();
        // The leader itself has its disk.
        let other = state.membership().voters.iter().find(|&&node| node != disk(server));
        let Some(&other) = other else { return Ok(()) };
        leader.node = other;
        let outcome = state.apply(&Command::BeginReplace { server, node: 200 }, None);
        if !of.contains_key(&server) {
            prop_assert_eq!(outcome, Outcome::Ignored(Ignored::NotReplaceable));
            return Ok(());
        }
        prop_assert_eq!(outcome, Outcome::ReplaceBegun { server, node: 200 });
        let begun = state.applied_index();
        if let Some(steps) = abandoned {
            leader.lead(&mut state, steps);
            let error = ErrorCode::NewConfigNoQuorum;
            let outcome = state.apply(&Command::AbandonReconfig { begun, error }, None);
            prop_assert_eq!(outcome, Outcome::ReplaceEnded { server, node: 200, is_done: false });
            if state.membership().members[&server].node == Some(disk(server)) {
                leader.disks.insert(server, disk(server));
            }
        } else {
            prop_assert_eq!(leader.lead(&mut state, MANY), Step::Finish);
            let outcome = state.apply(&Command::FinishReconfig { begun }, None);
            prop_assert_eq!(outcome, Outcome::ReplaceEnded { server, node: 200, is_done: true });
        }
        leader.weather = Weather { late: BTreeSet::new(), lag: 0, ..weather };
        prop_assert_eq!(leader.lead(&mut state, MANY), Step::Idle);
        assert_settled(&state, &leader, &of);
        prop_assert_eq!(state.last_zxid(), zxid, "nothing shows");
        prop_assert_eq!(state.lookup("/zookeeper/config").unwrap().stat(), shown);
    }
}
