//! Checks the recorded files themselves, without a server: every byte of them that is not masked counts.

use std::path::Path;

use super::Side;
use super::pattern::{Bindings, Chunk};
use super::scenario::{Action, Scenario};

fn files() -> Vec<(String, Scenario)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            files.push((name, scenario));
        }
    }
    files
}

/// A frame that `chunks` could have been recorded from, with made-up values behind the masks.
fn made_up(chunks: &[Chunk]) -> Vec<u8> {
    let mut frame = Vec::new();
    let named =
        |name: &str, salt: u8| name.bytes().fold(salt, |sum, b| sum.wrapping_mul(31).wrapping_add(b)) | 1;
    for chunk in chunks {
        match chunk {
            Chunk::Literal(bytes) => frame.extend_from_slice(bytes),
            Chunk::SessionId(name) => frame.extend(name.bytes().chain([7; 8]).take(8)),
            Chunk::Password(name) => frame.extend([named(name, 1); 16]),
            Chunk::Time(name) => frame.extend([named(name, 2); 8]),
            Chunk::Zxid(offset) => frame.extend((0x5_0000_0100 + offset).to_be_bytes()),
            Chunk::Set(elements) => {
                elements.iter().rev().for_each(|element| frame.extend_from_slice(element))
            }
            Chunk::Fill(byte, count) => frame.resize(frame.len() + count, *byte),
        }
    }
    frame
}

#[test]
fn every_byte_outside_the_masks_counts() {
    let mut checked = 0;
    for (name, scenario) in files() {
        for side in [Side::ZooKeeper, Side::Ostler] {
            let mut bindings = Bindings::default();
            for step in scenario.steps.iter().filter(|step| step.side.is_none_or(|only| only == side)) {
                let Action::Receive(chunks) = &step.action else { continue };
                let frame = made_up(chunks);
                let before = bindings.clone();
                let compared = bindings.compare(chunks, &frame);
                assert_eq!(compared, Ok(()), "{name} line {}", step.line);
                let mut offset = 0;
                for chunk in chunks {
                    // What a mask stands for is free only where it is seen first.
                    let free = matches!(chunk, Chunk::SessionId(_) | Chunk::Password(_) | Chunk::Time(_));
                    let free = free && before.render(std::slice::from_ref(chunk)).is_err();
                    let first_zxid =
                        matches!(chunk, Chunk::Zxid(_)) && before.render(&[Chunk::Zxid(0)]).is_err();
                    for index in offset..offset + chunk.len() {
                        let mut flipped = frame.clone();
                        flipped[index] ^= 0x80;
                        let fits = before.clone().compare(chunks, &flipped).is_ok();
                        let twice = free && chunks.iter().filter(|other| *other == chunk).count() > 1;
                        if !first_zxid && !twice {
                            assert_eq!(fits, free, "{name} line {} byte {index}", step.line);
                        }
                        checked += 1;
                    }
                    offset += chunk.len();
                }
            }
        }
    }
    assert!(checked > 50_000, "only {checked} bytes recorded");
}

#[test]
fn every_connection_is_ended_on_both_sides() {
    for (name, scenario) in files() {
        for side in [Side::ZooKeeper, Side::Ostler] {
            let mut open = Vec::new();
            for step in scenario.steps.iter().filter(|step| step.side.is_none_or(|only| only == side)) {
                match step.action {
                    Action::Connect => open.push(&step.connection),
                    Action::Close | Action::Closed => open.retain(|name| *name != &step.connection),
                    Action::Send(_) | Action::Receive(_) => {}
                }
            }
            assert!(open.is_empty(), "{name} leaves {open:?} open for {side:?}");
        }
    }
}

#[test]
fn only_the_files_named_so_differ() {
    for (name, scenario) in files() {
        let differs = scenario.steps.iter().any(|step| step.side.is_some());
        assert_eq!(differs, name.starts_with("differs-"), "{name}");
    }
}
