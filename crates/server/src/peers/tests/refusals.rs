//! Each refusal, as both sides log it.

use super::*;

/// Starts server `dialed` and then `dialing`, which dials it, and waits for what both log: the reason, and around it
/// who is told what.
fn refused(dialed: impl FnOnce() -> Server, dialing: impl FnOnce() -> Server, reason: &str) {
    let log = Log::start();
    let dialed = dialed();
    let mut dialing = dialing();
    let expected = PeerTarget { server_id: 1, ..dialed.target() };
    dialing.peers.set_targets(vec![expected]);
    log.wait(&format!("no link to a server: {} refuses this server: {reason} server=1", dialed.address()));
    log.wait(&format!("refused a server: {reason} server={}", dialing.server_id));
    // They go on trying, and keep quiet about it.
    let tries = Arc::strong_count(&dialed.peers.links);
    assert!(tries > 0);
    assert_eq!(log.count("no link to a server"), 1, "{}", log.text());
    assert!(dialing.events.try_recv().is_err(), "neither a link nor anything heard");
    dialing.passed.clear();
}
