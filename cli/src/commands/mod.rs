//! The table of commands, and how one of them is found and run.
//!
//! Laws
//! * A command is one file with one [`Command`]; nothing is listed anywhere but in [`COMMANDS`].
//! * A command returns its exit status, or an error that is printed here, as one line that starts with the name the
//!   user typed.

mod completion;
mod debug;
mod demo;
mod df;
mod freeze;
mod install;
mod man;
mod mkfs;
mod mount;
mod quota;
mod size;
mod thaw;
mod umount;
mod version;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;

/// Every command, in the order in which help lists them.
pub(crate) const COMMANDS: &[Command] = &[
    mkfs::COMMAND,
    mount::COMMAND,
    umount::COMMAND,
    quota::COMMAND,
    install::COMMAND,
    df::COMMAND,
    freeze::COMMAND,
    thaw::COMMAND,
    demo::COMMAND,
    debug::COMMAND,
    version::COMMAND,
    completion::COMMAND,
    man::COMMAND,
];

/// One command.
pub(crate) struct Command {
    /// What is typed after `lunfs`.
    pub(crate) name: &'static str,
    /// Names of the executable that mean this command; the first one is its own in messages and manual pages.
    pub(crate) called: &'static [&'static str],
    /// Exit status for a wrong use.
    pub(crate) status_usage: u8,
    /// Exit status for an error that `run` returns.
    pub(crate) status_failed: u8,
    /// Adds description and arguments to a command that has only a name.
    pub(crate) arguments: fn(clap::Command) -> clap::Command,
    /// Does it.
    pub(crate) run: fn(&ArgMatches) -> anyhow::Result<ExitCode>,
}

/// The arguments of a command, which know how to carry it out.
pub(crate) trait Run: clap::Args {
    /// Does it, and returns the exit status.
    fn run(self) -> anyhow::Result<ExitCode>;
}

impl Command {
    /// A command whose arguments are `A`, with the exit status that most programs have.
    pub(crate) const fn new<A: Run>(name: &'static str) -> Self {
        Self {
            name,
            called: &[],
            status_usage: 2,
            status_failed: 1,
            arguments: A::augment_args,
            run: |matches| A::from_arg_matches(matches)?.run(),
        }
    }

    /// The description of the command under `name`.
    pub(crate) fn clap(&self, name: &'static str) -> clap::Command {
        let version = env!("CARGO_PKG_VERSION");
        (self.arguments)(clap::Command::new(name)).version(version).disable_version_flag(self.called.is_empty())
    }
}

/// The description of `lunfs` with all its commands.
pub(crate) fn lunfs() -> clap::Command {
    clap::Command::new("lunfs")
        .about("A filesystem on a disk that several machines share")
        .long_about(
            "lunfs turns a disk that several Linux machines can see into a filesystem that they all share. Format it \
             once, mount it on every node. The disk format is that of GFS2.",
        )
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(COMMANDS.iter().map(|command| command.clap(command.name)))
}

/// Runs the command that `arguments` (with the name of the program) ask for.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let called = arguments.first().and_then(|path| Path::new(path).file_name()?.to_str()).unwrap_or("lunfs");
    let by_name = COMMANDS.iter().find(|command| command.called.contains(&called));
    match by_name {
        Some(command) => {
            let name = command.called.first().copied().unwrap_or(command.name);
            match command.clap(name).try_get_matches_from(arguments) {
                Ok(matches) => finish(command, name, &matches),
                Err(error) => refuse(&error, command.status_usage),
            }
        }
        None => match lunfs().try_get_matches_from(&arguments) {
            Ok(matches) => {
                let found = matches.subcommand().and_then(|(name, matches)| {
                    COMMANDS.iter().find(|command| command.name == name).map(|command| (command, matches))
                });
                // Without a command there was an error before.
                found.map_or(ExitCode::FAILURE, |(command, matches)| finish(command, "lunfs", matches))
            }
            Err(error) => {
                let typed = arguments
                    .iter()
                    .skip(1)
                    .find_map(|argument| COMMANDS.iter().find(|command| argument.to_str() == Some(command.name)));
                refuse(&error, typed.map_or(2, |command| command.status_usage))
            }
        },
    }
}

/// Runs `command` and prints its error, if there is one.
fn finish(command: &Command, called: &str, matches: &ArgMatches) -> ExitCode {
    match (command.run)(matches) {
        Ok(status) => status,
        // Whoever reads our output has seen enough: no error of ours.
        Err(error) if is_broken_pipe(&error) => ExitCode::from(141),
        Err(error) => {
            let name = if called == "lunfs" { format!("lunfs {}", command.name) } else { called.to_owned() };
            eprintln!("{name}: {error:#}");
            ExitCode::from(command.status_failed)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref().is_some_and(|io: &io::Error| io.kind() == io::ErrorKind::BrokenPipe))
}

/// Prints what clap has to say: help and version on stdout with status 0, a wrong use on stderr with `status`.
fn refuse(error: &clap::Error, status: u8) -> ExitCode {
    // Nobody is left to be told that this cannot be printed.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(status) } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_lines_contradict_nothing() {
        lunfs().debug_assert();
        for command in COMMANDS {
            for name in command.called {
                command.clap(name).debug_assert();
            }
        }
    }

    #[test]
    fn every_name_means_one_command() {
        let mut names: Vec<_> =
            COMMANDS.iter().flat_map(|command| command.called.iter().chain([&command.name])).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
