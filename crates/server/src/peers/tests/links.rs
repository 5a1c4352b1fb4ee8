//! Links come, carry frames, go and come back.

use super::*;

#[test]
fn three_servers_exchange_frames_in_order() {
    let mut servers: Vec<_> = (1..=3).map(Server::new).collect();
    let targets: Vec<_> = servers.iter().map(Server::target).collect();
    for server in &servers {
        // Its own entry is left out.
        server.peers.set_targets(targets.clone());
    }
    for from in 0..3 {
        for to in (0..3).filter(|&to| to != from) {
            let hello = servers[from].wait_up(to as u8 + 1);
            assert_eq!(hello.from, myself(to as u8 + 1));
            for n in 0..1_000u32 {
                let frames = vec![n.to_le_bytes().to_vec().into(), vec![n as u8; 1 + n as usize].into()];
                let node_id = servers[to].node_id();
                assert_eq!(servers[from].peers.send(node_id, frames, Delivery::OrBreak), Sent::Queued);
            }
            let got = servers[to].wait_frames(from as u8 + 1, 2_000);
            for (n, pair) in got.chunks(2).enumerate() {
                assert_eq!(pair[0], (n as u32).to_le_bytes()[..]);
                assert_eq!(pair[1], vec![n as u8; 1 + n]);
            }
        }
    }
}

#[test]
fn the_longest_frames_pass() {
    let (one, mut two) = pair();
    let long = Bytes::from(vec![7; MAX_FRAME_BYTES]);
    for _ in 0..3 {
        assert_eq!(one.peers.send(two.node_id(), vec![long.clone()], Delivery::OrBreak), Sent::Queued);
        let frames = two.wait_frames(1, 1);
        assert!(frames[0] == long, "{} bytes", frames[0].len());
        while one.peers.links.queued(two.node_id()) > 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_server_that_ends_is_gone_and_one_that_returns_is_linked_again() {
    let (mut one, two) = pair();
    let address = two.address();
    drop(two);
    one.wait_down(2);
    one.wait_gone(2);
    assert_eq!(one.peers.send(myself(2).node_id, vec!["x".into()], Delivery::MayDrop), Sent::NoLink);
    let settings = PeerSettings { listen: vec![address], ..PeerSettings::default() };
    let mut two = Server::with(settings, Myself { incarnation: 99, ..myself(2) }, Standing::Member);
    two.peers.set_targets(vec![one.target()]);
    assert_eq!(one.wait_up(2).from.incarnation, 99);
    two.wait_up(1);
    assert_eq!(one.send(&two, b"again"), Sent::Queued);
    assert_eq!(two.wait_frames(1, 1), ["again"]);
}

#[test]
fn what_is_queued_is_sent_before_a_stop() {
    let (one, mut two) = pair();
    for _ in 0..100 {
        assert_eq!(
            one.peers.send(two.node_id(), vec![vec![1; 100_000].into()], Delivery::MayDrop),
            Sent::Queued
        );
    }
    assert_eq!(one.send(&two, b"last"), Sent::Queued);
    one.peers.stop();
    assert_eq!(two.wait_frames(1, 101).last().unwrap(), "last");
    two.wait_gone(1);
}

#[test]
fn targets_can_be_taken_away_and_given_back() {
    let (mut one, mut two) = pair();
    one.peers.set_targets(vec![]);
    one.wait_down(2);
    assert_eq!(one.send(&two, b"x"), Sent::NoLink);
    one.peers.set_targets(vec![two.target()]);
    one.wait_up(2);
    // The same again changes nothing.
    one.peers.set_targets(vec![two.target()]);
    assert_eq!(one.send(&two, b"y"), Sent::Queued);
    assert_eq!(two.wait_frames(1, 1), ["y"]);
    assert!(!one.passed.iter().any(|event| matches!(event, PeerEvent::Down { .. })));
}

#[test]
fn unborn_servers_introduce_themselves_until_they_belong_to_a_cluster() {
    let unborn = |id| Myself { cluster_id: None, ..myself(id) };
    let mut one = Server::with(loopback(), unborn(1), Standing::Member);
    let mut two = Server::with(loopback(), unborn(2), Standing::Member);
    one.peers.set_targets(vec![two.target()]);
    two.peers.set_targets(vec![one.target()]);
    let standing_of = |server: &mut Server| {
        server.wait("an answer", |event| match event {
            PeerEvent::Heard { standing, .. } => standing.clone(),
            _ => None,
        })
    };
    assert_eq!(standing_of(&mut one), Standing::Unborn);
    assert_eq!(two.wait_heard(1).from, unborn(1));
    assert_eq!(one.send(&two, b"x"), Sent::NoLink);
    // Server 1 founds the cluster.
    one.peers.set_myself(myself(1));
    let born = two.wait("a born server", |event| match event {
        PeerEvent::Heard { hello, standing: Some(standing) } if hello.from.cluster_id.is_some() => {
            Some(standing.clone())
        }
        _ => None,
    });
    assert_eq!(born, Standing::Member);
    two.peers.set_myself(myself(2));
    one.wait_up(2);
    two.wait_up(1);
    assert_eq!(two.send(&one, b"now"), Sent::Queued);
    assert_eq!(one.wait_frames(2, 1), ["now"]);
}

#[test]
fn an_unborn_server_learns_whom_it_may_replace() {
    let (mut one, mut two) = (
        Server::with(loopback(), myself(1), Standing::Replaceable { node_id: 0xabc }),
        Server::with(loopback(), Myself { cluster_id: None, ..myself(2) }, Standing::Member),
    );
    two.peers.set_targets(vec![one.target()]);
    let standing = two.wait("an answer", |event| match event {
        PeerEvent::Heard { standing, .. } => standing.clone(),
        _ => None,
    });
    assert_eq!(standing, Standing::Replaceable { node_id: 0xabc });
    assert_eq!(one.wait_heard(2).from.cluster_id, None);
    // The other way round it is the same: no link.
    one.peers.set_targets(vec![two.target()]);
    one.wait("an unborn server's answer", |event| match event {
        PeerEvent::Heard { standing: Some(Standing::Unborn), hello } => {
            assert_eq!(hello.from.cluster_id, None);
            Some(())
        }
        PeerEvent::Up { .. } => panic!("a link to an unborn server"),
        _ => None,
    });
    assert_eq!(one.send(&two, b"x"), Sent::NoLink);
}

#[test]
fn a_server_that_becomes_another_begins_anew() {
    let log = Log::start();
    let (mut one, mut two) = pair();
    // What is no identity changes nothing.
    one.peers.set_myself(Myself { members: "others".to_owned(), ..myself(1) });
    assert_eq!(one.send(&two, b"x"), Sent::Queued);
    assert_eq!(two.wait_frames(1, 1), ["x"]);
    one.peers.set_myself(Myself { cluster_id: Some(0xc2), ..myself(1) });
    one.wait_down(2);
    two.wait_down(1);
    log.wait("refuses this server: server 2 belongs to cluster 00000000000000c1, but server 1 to cluster 00000000000000c2");
    one.peers.set_myself(myself(1));
    one.wait_up(2);
    two.wait_up(1);
}

#[test]
fn ranges_of_versions_meet_at_the_newest_common_one() {
    let offering = |id, oldest, newest| {
        let settings = PeerSettings { versions: Versions { oldest, newest }, ..loopback() };
        Server::with(settings, myself(id), Standing::Member)
    };
    let (mut old, mut new) = (offering(1, 1, 2), offering(2, 2, 5));
    old.peers.set_targets(vec![new.target()]);
    new.peers.set_targets(vec![old.target()]);
    for server in [&mut old, &mut new] {
        let version = server.wait("Up", |event| match event {
            PeerEvent::Up { version, .. } => Some(*version),
            _ => None,
        });
        assert_eq!(version, 2);
    }
}

#[test]
fn of_several_addresses_one_that_answers_is_enough() {
    let (mut one, two) = (Server::new(1), Server::new(2));
    let dead = Server::new(3).address();
    let mut target = target(2, dead);
    target.addresses.extend(two.target().addresses);
    one.peers.set_targets(vec![target]);
    one.wait_up(2);
}

#[test]
fn a_name_is_looked_up() {
    let (mut one, two) = (Server::new(1), Server::new(2));
    let address = PeerAddress { host: "localhost".to_owned(), port: two.address().port() };
    one.peers.set_targets(vec![PeerTarget { server_id: 2, addresses: vec![address] }]);
    one.wait_up(2);
}
