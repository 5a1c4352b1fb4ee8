//! What the arguments mean: one function per command.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use ostler_server::config::{self, ConfigError, Loaded, Overrides};
use ostler_server::{StartError, logging};

use crate::arguments::{Arguments, Check, Command, Recover, Serve, ServeOptions};

/// How the program ends. The numbers are documented in `--help` and `docs/operations.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Success = 0,
    Failure = 1,
    /// Wrong arguments or configuration; also what the argument parser itself exits with.
    Usage = 2,
    /// The data directory cannot be used.
    DataUnusable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        None => serve(&[], &arguments.serve).into(),
        Some(Command::Serve(Serve { settings, options })) => serve(&settings, &options).into(),
        Some(Command::Check(check)) => self::check(&check).into(),
        Some(Command::Recover(recover)) => self::recover(&recover).into(),
        Some(Command::Bench(bench)) => ostler_cli::bench::run(&bench),
        Some(Command::Dev(dev)) => ostler_cli::dev::run(&dev),
        Some(Command::Config(config)) => ostler_cli::membership::config(&config),
        Some(Command::Reconfig(reconfig)) => ostler_cli::membership::reconfig(&reconfig),
    }
}

fn serve(settings: &[String], options: &ServeOptions) -> Exit {
    let loaded = match load(settings, options) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("ostler: {error}");
            return Exit::Usage;
        }
    };
    if options.print_config {
        return print(&format!("{:#}", loaded.to_json()));
    }
    if let Err(error) = logging::start(options.log_format(), &options.log_level) {
        eprintln!("ostler: {error}");
        return Exit::Failure;
    }
    if options.stop_on_eof {
        ostler_server::stop_when_input_ends();
    }
    let ended = ostler_server::run(loaded);
    logging::finish();
    match ended {
        Ok(()) => Exit::Success,
        Err(error) => {
            eprintln!("ostler: {error}");
            match error {
                StartError::Recovery(_) => Exit::DataUnusable,
                StartError::Listen(_) | StartError::QuorumPort { .. } | StartError::System(_) => {
                    Exit::Failure
                }
            }
        }
    }
}

fn load(settings: &[String], options: &ServeOptions) -> Result<Loaded, ConfigError> {
    let overrides = Overrides {
        data_dir: options.data_dir.clone(),
        listen: options.listen.clone(),
        server_id: options.id,
    };
    match settings {
        [] => config::standalone_default(&overrides),
        [file] => config::read_file(Path::new(file), &overrides),
        arguments => config::from_arguments(arguments, &overrides),
    }
}

/// To standard output, where somebody may have stopped reading.
fn print(text: &str) -> Exit {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => Exit::Success,
        Err(error) => {
            eprintln!("ostler: cannot write the output: {error}");
            Exit::Failure
        }
    }
}

fn check(check: &Check) -> Exit {
    let log_dir = check.log_dir.as_deref().unwrap_or(&check.data_dir);
    let report = ostler_server::check(&check.data_dir, log_dir);
    let printed = if check.json { print(&report.to_json()) } else { print(&report.to_string()) };
    match printed {
        Exit::Success if report.good => Exit::Success,
        Exit::Success => Exit::DataUnusable,
        failed => failed,
    }
}

/// What has to be typed.
const CONFIRMATION: &str = "new cluster";

fn recover(recover: &Recover) -> Exit {
    let log_dir = recover.log_dir.as_deref().unwrap_or(&recover.data_dir);
    let done = match ostler_server::finish_interrupted(&recover.data_dir, log_dir) {
        Ok(Some(done)) => Ok(done),
        Ok(None) => match ostler_server::examine(&recover.data_dir, log_dir) {
            Ok(survivor) => {
                let report = survivor.report();
                let shown = if recover.json { print(&report.to_json()) } else { print(&report.to_string()) };
                if shown != Exit::Success || !(recover.yes_i_know || is_confirmed()) {
                    eprintln!("ostler: nothing was changed");
                    return Exit::Failure;
                }
                survivor.found_new_cluster()
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    match done {
        Ok(done) if recover.json => print(&done.to_json()),
        Ok(done) => print(&done.to_string()),
        Err(error) => {
            eprintln!("ostler: {error}");
            Exit::DataUnusable
        }
    }
}

/// Asks for what nobody types by mistake.
fn is_confirmed() -> bool {
    eprint!("Type `{CONFIRMATION}` to go on: ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).is_ok() && line.trim() == CONFIRMATION
}
