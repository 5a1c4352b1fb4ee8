//! Each refusal, as both sides log it.

use super::*;

/// Server `dialing` dials `dialed`, taking it for server 1, and both log `reason`: neither gets a link.
fn refused(log: &Log, dialed: &Server, dialing: &Server, reason: &str) {
    dialing.peers.set_targets(vec![PeerTarget { server_id: 1, ..dialed.target() }]);
    log.wait(&format!("no link to a server: {} refuses this server: {reason} server=1\n", dialed.address()));
    let told = format!("refused a server: {reason} server={} address=127.0.0.1:", dialing.server_id);
    log.wait(&told);
    assert_eq!(log.count("refuses this server"), 1, "{}", log.text());
    assert_eq!(log.count("refused a server"), 1, "{}", log.text());
    for server in [dialed, dialing] {
        let up = server.events.try_iter().find(|event| matches!(event, PeerEvent::Up { .. }));
        assert!(up.is_none(), "{up:?}");
    }
}

fn saying(myself: Myself) -> Server {
    Server::with(loopback(), myself, Standing::Member)
}

#[test]
fn another_cluster() {
    let log = Log::start();
    refused(
        &log,
        &Server::new(1),
        &saying(Myself { cluster_id: Some(0xc2), ..myself(2) }),
        "server 1 belongs to cluster 00000000000000c1, but server 2 to cluster 00000000000000c2; remedy: check the \
         server.N lines for an address of another ensemble; a server joins this one only with an empty dataDir and \
         dataLogDir",
    );
}

#[test]
fn nothing_in_common() {
    let log = Log::start();
    let settings = PeerSettings { versions: Versions { oldest: 2, newest: 3 }, ..loopback() };
    refused(
        &log,
        &Server::new(1),
        &Server::with(settings, myself(2), Standing::Member),
        concat!(
            "server 1 (ostler ",
            env!("CARGO_PKG_VERSION"),
            ") speaks the peer protocol 1, but server 2 (ostler ",
            env!("CARGO_PKG_VERSION"),
            ") speaks 2 to 3; remedy: upgrade through a release that speaks both"
        ),
    );
}

#[test]
fn no_feature_level_in_common() {
    let log = Log::start();
    let features = Versions { oldest: 5, newest: 7 };
    refused(
        &log,
        &Server::new(1),
        &saying(Myself { features, ..myself(2) }),
        concat!(
            "server 1 (ostler ",
            env!("CARGO_PKG_VERSION"),
            ") applies feature levels 1, but server 2 (ostler ",
            env!("CARGO_PKG_VERSION"),
            ") applies 5 to 7; remedy: upgrade through a release that applies both"
        ),
    );
}

#[test]
fn a_server_at_the_address_of_another() {
    let log = Log::start();
    refused(
        &log,
        &Server::new(3),
        &Server::new(2),
        "server 2 looked for server 1 and found server 3; remedy: check myid there and the server.N lines here and \
         there",
    );
}

#[test]
fn two_servers_of_one_id() {
    let log = Log::start();
    refused(
        &log,
        &saying(Myself { node_id: 0xaa, incarnation: 7, ..myself(2) }),
        &Server::new(2),
        "two servers have the id 2 (nodes 00000000000000aa and 00000000000000d2); remedy: give each server its own \
         myid",
    );
}

#[test]
fn a_copied_disk() {
    let log = Log::start();
    refused(
        &log,
        &Server::new(1),
        &saying(Myself { node_id: myself(1).node_id, ..myself(2) }),
        "server 1 and server 2 both run with the disk of node 00000000000000d1: a data directory was copied; remedy: \
         empty the copy's dataDir and dataLogDir and let it join as a new server",
    );
}

#[test]
fn a_server_that_reaches_itself() {
    let log = Log::start();
    let one = Server::new(2);
    refused(
        &log,
        &one,
        &one,
        "server 2 has reached itself: the address of server 1 leads to it; remedy: correct that server.N line",
    );
}

#[test]
fn what_the_membership_says() {
    let log = Log::start();
    let reason = "node 00000000000000d2 was removed from the ensemble; remedy: stop it";
    let removed = Standing::Refused(RefusalCode::NotAMember, reason.to_owned());
    let one = Server::with(loopback(), myself(1), removed);
    refused(&log, &one, &Server::new(2), reason);
}

#[test]
fn what_the_membership_of_the_dialing_server_says() {
    let log = Log::start();
    let (mut one, two) = (
        Server::with(
            loopback(),
            myself(1),
            Standing::Refused(RefusalCode::Data, "its log is too short".to_owned()),
        ),
        Server::new(2),
    );
    one.peers.set_targets(vec![two.target()]);
    log.wait(&format!(
        "no link to a server: this server refuses {}: its log is too short server=2\n",
        two.address()
    ));
    assert!(one.events.try_recv().is_err());
    one.passed.clear();
}

#[test]
fn an_id_whose_first_owner_is_connected() {
    let log = Log::start();
    let (mut one, first) = (Server::new(1), Server::new(2));
    first.peers.set_targets(vec![one.target()]);
    assert_eq!(first.peers.send(0, vec!["x".into()], Delivery::MayDrop), Sent::NoLink);
    let mut first = first;
    first.wait_up(1);
    assert_eq!(first.send(&one, b"in"), Sent::Queued);
    one.wait_frames(2, 1);
    let mut second = saying(Myself { node_id: 0xbb, incarnation: 5, ..myself(2) });
    second.peers.set_targets(vec![one.target()]);
    let reason = "server 2 is already connected from 127.0.0.1:";
    log.wait(&format!("refused a server: {reason}"));
    log.wait(&format!("no link to a server: {} refuses this server: {reason}", one.address()));
    log.wait(
        " with another disk (node 00000000000000d2, not 00000000000000bb); remedy: give each server its own myid, or \
         stop the other one if this one is to take its place",
    );
    // An unborn server with this id is told the same.
    let unborn = saying(Myself { node_id: 0xcc, incarnation: 6, cluster_id: None, ..myself(2) });
    unborn.peers.set_targets(vec![one.target()]);
    log.wait("with another disk (node 00000000000000d2, not 00000000000000cc)");
    drop(unborn);
    // When the first is gone the second gets its place.
    drop(first);
    second.wait_up(1);
    log.wait("the server is reached again server=1");
    log.wait("the server is let in again server=2");
}

#[test]
fn two_processes_with_one_disk_do_not_take_turns() {
    let log = Log::start();
    let mut one = Server::new(1);
    let mut first = Server::new(2);
    first.peers.set_targets(vec![one.target()]);
    first.wait_up(1);
    assert_eq!(first.send(&one, b"first"), Sent::Queued);
    assert_eq!(one.wait_frames(2, 1), ["first"]);
    // As if the first had died, and its connection did not know it.
    let mut second = saying(Myself { incarnation: 77, ..myself(2) });
    second.peers.set_targets(vec![one.target()]);
    second.wait_up(1);
    first.wait_down(1);
    log.wait("server 2 runs twice with the disk of node 00000000000000d2, also at 127.0.0.1:");
    assert_eq!(second.send(&one, b"second"), Sent::Queued);
    assert_eq!(one.wait_frames(2, 1), ["second"]);
}
