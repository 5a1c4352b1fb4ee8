//! The `ostler` program: reads its arguments, and calls the server or the tools.

mod arguments;
mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::run(arguments::Arguments::parse())
}
