//! What goes wrong on the way: hostile strangers, damaged bytes, servers that take nothing.

use std::io::Read;
use std::net::Shutdown;

use super::super::frame::{FRAME_HEADER, frame_header};
use super::super::hello::{Greeting, MAGIC};
use super::*;

fn greeting(greeting: &Greeting) -> Vec<u8> {
    let payload = greeting.encode();
    [&MAGIC[..], &frame_header(&payload), &payload].concat()
}

fn hello(from: u8, to: u8) -> Hello {
    Hello {
        from: myself(from),
        versions: PROTOCOL,
        to_server_id: to,
        purpose: Purpose::Link,
        software: "a test".to_owned(),
    }
}

/// Reads one greeting, byte by byte as the document says.
fn read_greeting(stream: &mut TcpStream) -> Greeting {
    let mut start = [0; 8 + FRAME_HEADER];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start[..8], b"OSTLRPER");
    let mut payload = vec![0; u32::from_le_bytes(start[8..12].try_into().unwrap()) as usize];
    stream.read_exact(&mut payload).unwrap();
    Greeting::decode(&payload).unwrap()
}

/// A connection to `server` over which server 2 has introduced itself.
fn link_to(server: &Server) -> TcpStream {
    let (stream, answer) = introduce(server, hello(2, server.server_id));
    assert!(matches!(answer, Greeting::Answer { version: 1, standing: Standing::Member, .. }), "{answer:?}");
    stream
}

fn introduce(server: &Server, hello: Hello) -> (TcpStream, Greeting) {
    let mut stream = connect(server);
    stream.write_all(&greeting(&Greeting::Hello(hello))).unwrap();
    let answer = read_greeting(&mut stream);
    (stream, answer)
}

#[test]
fn a_process_that_was_taken_for_a_copy_may_return_when_it_is_the_only_one() {
    let one = Server::new(1);
    let as_run = |incarnation| {
        let from = Myself { incarnation, ..myself(2) };
        introduce(&one, Hello { from, ..hello(2, 1) })
    };
    let let_in = |answer: &Greeting| matches!(answer, Greeting::Answer { .. });
    let (first, answer) = as_run(1);
    assert!(let_in(&answer));
    let (second, answer) = as_run(2);
    assert!(let_in(&answer));
    wait_closed(first);
    assert!(!let_in(&as_run(1).1));
    drop(second);
    let returned = loop {
        // Until it is noticed that the second is gone.
        let (stream, answer) = as_run(1);
        if let_in(&answer) {
            break stream;
        }
    };
    // Its connection is lost without being noticed here.
    let (_again, answer) = as_run(1);
    assert!(let_in(&answer), "{answer:?}");
    wait_closed(returned);
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(FAILED)).unwrap();
    stream
}

/// Waits until the other side has closed the connection.
fn wait_closed(mut stream: TcpStream) {
    let end = stream.read_to_end(&mut Vec::new());
    let given_up = end.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    // A reset is an end too: it closed without having read everything.
    assert!(!given_up, "the connection stays open");
}

/// Accepts server `from`'s link, as server `to`.
fn accept_link(listener: &TcpListener, to: u8) -> TcpStream {
    let mut stream = accept(listener);
    let Greeting::Hello(theirs) = read_greeting(&mut stream) else { panic!("a server begins with a Hello") };
    let answer =
        Greeting::Answer { hello: hello(to, theirs.from.server_id), version: 1, standing: Standing::Member };
    stream.write_all(&greeting(&answer)).unwrap();
    stream
}

#[test]
fn damaged_frames_end_the_link_and_are_told_once() {
    let log = Log::start();
    let mut one = Server::new(1);
    for _ in 0..3 {
        let mut stream = link_to(&one);
        let good = [&frame_header(b"good")[..], b"good"].concat();
        let mut bad = good.clone();
        bad[FRAME_HEADER] ^= 1;
        stream.write_all(&[good.clone(), bad, good].concat()).unwrap();
        wait_closed(stream);
        // What came before the damage is good; what comes after it is not.
        assert_eq!(one.wait_frames(2, 1), ["good"]);
    }
    let told = "damaged bytes came from a server, closing the connection: a frame of 4 bytes does not match its \
                checksum; if this comes again, look for faulty memory or network hardware between the two server=2";
    assert_eq!(log.count(told), 1, "{}", log.text());
    assert_eq!(log.count("let in again"), 1, "{}", log.text());
}

#[test]
fn impossible_lengths_end_the_link_before_any_payload_comes() {
    let log = Log::start();
    let one = Server::new(1);
    for (length, text) in [(0u32, "0"), (u32::MAX, "4294967295"), (MAX_FRAME_BYTES as u32 + 1, "67174401")] {
        let mut stream = link_to(&one);
        stream.write_all(&[length.to_le_bytes(), [0; 4]].concat()).unwrap();
        wait_closed(stream);
        log.wait(&format!("a frame claims to be {text} bytes long (1 to 67174400 are possible)"));
    }
}

#[test]
fn strangers_are_turned_away() {
    let log = Log::start();
    let one = Server::new(1);
    let mut damaged = greeting(&Greeting::Hello(hello(2, 1)));
    *damaged.last_mut().unwrap() ^= 1;
    let mut long = MAGIC.to_vec();
    long.extend_from_slice(&[0, 0, 16, 0, 0, 0, 0, 0]);
    let senseless = [&MAGIC[..], &frame_header(b"\x09what"), b"\x09what"].concat();
    let answer = Greeting::Answer { hello: hello(2, 1), version: 1, standing: Standing::Member };
    for (bytes, told) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "it does not speak Ostler's peer protocol"),
        (&damaged, "its introduction is damaged: a frame of"),
        (
            &long,
            "its introduction is damaged: a frame claims to be 1048576 bytes long (1 to 65536 are possible)",
        ),
        (&senseless, "its introduction makes no sense: it is neither a Hello nor a refusal"),
        (&greeting(&answer), "it introduced itself out of turn"),
    ] {
        let mut stream = TcpStream::connect(one.address()).unwrap();
        stream.write_all(bytes).unwrap();
        wait_closed(stream);
        log.wait(&format!("closed a connection to the quorum port: {told}"));
    }
    // One that says nothing is given up.
    wait_closed(TcpStream::connect(one.address()).unwrap());
    log.wait("it did not introduce itself within two seconds");
    link_to(&one);
}

#[test]
fn a_crowd_of_strangers_does_not_stop_the_others_for_long() {
    let log = Log::start();
    let (one, mut two) = (Server::new(1), Server::new(2));
    let crowd: Vec<_> = (0..100).map(|_| TcpStream::connect(one.address()).unwrap()).collect();
    log.wait("too many connections to the quorum port that do not introduce themselves");
    two.peers.set_targets(vec![one.target()]);
    two.wait_up(1);
    drop(crowd);
}

#[test]
fn a_server_that_takes_nothing_has_its_frames_dropped_or_its_link_broken() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let settings = PeerSettings { queue_bytes: 1 << 20, ..loopback() };
    let mut one = Server::with(settings, myself(1), Standing::Member);
    one.peers.set_targets(vec![target(2, listener.local_addr().unwrap())]);
    let slow = accept_link(&listener, 2);
    one.wait_up(2);
    let two = myself(2).node_id;
    let frame = Bytes::from(vec![1; 100 << 10]);
    let send = |delivery| one.peers.send(two, vec![frame.clone()], delivery);
    // The kernel takes some, then the queue.
    while send(Delivery::MayDrop) == Sent::Queued {
        assert!(one.peers.links.queued(two) <= 1 << 20);
    }
    // All or nothing.
    assert_eq!(one.peers.send(two, vec!["a".into(), frame.clone()], Delivery::MayDrop), Sent::Full);
    assert!(one.events.try_recv().is_err(), "a dropped frame leaves the link as it is");
    while send(Delivery::OrBreak) == Sent::Queued {}
    assert_eq!(send(Delivery::MayDrop), Sent::NoLink, "nothing passes what could not be queued");
    one.wait_down(2);
    let again = accept_link(&listener, 2);
    one.wait_up(2);
    assert_eq!(one.peers.links.queued(two), 0);
    drop((slow, again));
}

#[test]
fn a_receiver_that_is_not_done_stops_the_flow() {
    let (one, mut two) = pair();
    let frame = Bytes::from(vec![1; 32 << 20]);
    let mut credits = Vec::new();
    let mut sent = 0;
    // The sender's queue, the receiver's room and what is between them fill up.
    loop {
        match one.peers.send(two.node_id(), vec![frame.clone()], Delivery::MayDrop) {
            Sent::Queued => sent += 1,
            Sent::Full if credits.len() >= 4 => break,
            Sent::Full => {}
            Sent::NoLink => panic!("the link is up"),
        }
        while let Ok(event) = two.events.try_recv() {
            if let PeerEvent::Frames { frames, credit, .. } = event {
                assert_eq!(frames.len(), 1);
                credits.push(credit);
            }
        }
    }
    assert!(sent > 4, "{sent} frames were sent");
    let mut got = credits.len();
    drop(credits);
    while got < sent {
        got += two.wait_frames(1, 1).len();
    }
}

#[test]
fn a_link_that_is_cut_comes_back_and_nobody_is_gone() {
    let log = Log::start();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut one = Server::new(1);
    one.peers.set_targets(vec![target(2, listener.local_addr().unwrap())]);
    for _ in 0..5 {
        let link = accept_link(&listener, 2);
        one.wait_up(2);
        drop(link);
        one.wait_down(2);
    }
    let link = accept_link(&listener, 2);
    one.wait_up(2);
    assert!(one.passed.is_empty() && one.events.try_recv().is_err());
    assert_eq!(log.count("the link to a server is lost: the other side closed it server=2"), 1);
    // A server that speaks where it must only listen is misunderstood.
    (&link).write_all(b"x").unwrap();
    one.wait_down(2);
    log.wait("the link to a server is lost: the other side sent something, which it must not");
    // The process ends: first its connections, then its listener.
    let link = accept_link(&listener, 2);
    one.wait_up(2);
    link.shutdown(Shutdown::Both).unwrap();
    one.wait_down(2);
    drop(accept(&listener));
    drop(listener);
    one.wait_gone(2);
}
