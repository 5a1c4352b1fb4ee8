//! The Ostler server around the decisions of `node`: configuration, sockets, files, logging and
//! four-letter words.

pub mod config;
pub mod logging;
pub mod words;
