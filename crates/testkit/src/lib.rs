//! What the tests of several crates share. Nothing here is part of the server.
//!
//! [`golden`] plays exchanges recorded from Apache ZooKeeper to a running server and compares every byte of
//! the answers.

pub mod golden;
