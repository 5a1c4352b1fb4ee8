//! The commands of `ostler` that know a server only from outside: as its clients, or as a process with a configuration
//! file. They know nothing of the server's code; clients work with anything that speaks ZooKeeper's protocol.
//!
//! A command is a clap argument struct and a `run` that takes it; the `ostler` binary only dispatches.

pub mod bench;
pub mod dev;
pub mod membership;
