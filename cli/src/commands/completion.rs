//! `lunfs completion`: what a shell needs to complete command lines.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::{Command, Run};

/// The table's entry.
pub(crate) const COMMAND: Command = Command::new::<Completion>("completion");

/// Print a script that makes a shell complete lunfs command lines
///
/// For bash: lunfs completion bash > /usr/share/bash-completion/completions/lunfs
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

impl Run for Completion {
    fn run(self) -> anyhow::Result<ExitCode> {
        io::stdout().write_all(&script(self.shell))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The script for `shell`, which completes `lunfs` and every name that it is called by.
pub(crate) fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::lunfs(), "lunfs", &mut script);
    for command in super::COMMANDS {
        if let Some(name) = command.called.first() {
            clap_complete::generate(shell, &mut command.clap(name), *name, &mut script);
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = String::from_utf8(script(shell)).unwrap();
            assert!(script.contains("completion"), "{shell}");
        }
    }
}
