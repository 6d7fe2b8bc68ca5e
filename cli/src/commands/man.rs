//! `lunfs man`: manual pages, made from the same descriptions as `--help`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use clap_mangen::Man as Page;

use super::{COMMANDS, Command, Run};

/// The table's entry.
pub(crate) const COMMAND: Command = Command::new::<Man>("man");

/// Section of the manual for programs of the administrator.
pub(crate) const SECTION: &str = "8";

/// Print a manual page
///
/// To read one: lunfs man | man -l -
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Which page: lunfs, lunfs-SUBCOMMAND, or a name such as mkfs.lunfs
    #[arg(default_value = "lunfs")]
    name: String,
    /// Write every page into this folder instead, as NAME.8
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    dir: Option<PathBuf>,
}

impl Run for Man {
    fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(dir) = self.dir {
            write_all(&dir)?;
            return Ok(ExitCode::SUCCESS);
        }
        let pages = pages();
        let Some((_, page)) = pages.iter().find(|(name, _)| *name == self.name) else {
            let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
            bail!("there is no page {:?}; there are: {}", self.name, names.join(", "));
        };
        io::stdout().write_all(page)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes every page into `dir`, which is made if it does not exist, and returns the files.
pub(crate) fn write_all(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let mut written = Vec::new();
    for (name, page) in pages() {
        let path = dir.join(format!("{name}.{SECTION}"));
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

/// Name and text of every page: `lunfs`, each of its commands, and each name that it is called by.
pub(crate) fn pages() -> Vec<(String, Vec<u8>)> {
    let mut pages = vec![("lunfs".to_owned(), render(super::lunfs()))];
    for command in COMMANDS {
        match command.called.first() {
            Some(name) => pages.push(((*name).to_owned(), render(command.clap(name)))),
            None => {
                let name = format!("lunfs-{}", command.name);
                let description =
                    command.clap(command.name).display_name(&name).bin_name(format!("lunfs {}", command.name));
                pages.push((name, render(description)));
            }
        }
    }
    pages
}

fn render(mut command: clap::Command) -> Vec<u8> {
    command.build();
    let mut text = Vec::new();
    // Writing into memory cannot fail.
    let _ = Page::new(command).section(SECTION).manual("lunfs").render(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_description() {
        let pages = pages();
        assert_eq!(pages.len(), 1 + COMMANDS.len());
        for (name, page) in pages {
            let text = String::from_utf8(page).unwrap();
            assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS") && text.len() > 200, "{name}");
        }
    }
}
