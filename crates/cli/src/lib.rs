//! The commands of `ostler` that talk to a server as its clients do. They know nothing of the server's code and
//! work with anything that speaks ZooKeeper's protocol.
//!
//! A command is a clap argument struct and a `run` that takes it; the `ostler` binary only dispatches.

pub mod bench;
