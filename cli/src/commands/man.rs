//! `lunfs man`: manual pages, made from the same descriptions as `--help`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use clap_mangen::Man as Page;
use clap_mangen::roff::{Roff, bold, italic, roman};

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
        let name = page_name(command);
        let description = command.called.first().map_or_else(
            || command.clap(command.name).display_name(&name).bin_name(format!("lunfs {}", command.name)),
            |name| command.clap(name),
        );
        pages.push((name, render(description)));
    }
    pages
}

fn render(mut command: clap::Command) -> Vec<u8> {
    command.build();
    let commands = commands_section(&command);
    let page = Page::new(command).section(SECTION).manual("lunfs");
    let mut text = Vec::new();
    let mut parts = || -> io::Result<()> {
        page.render_title(&mut text)?;
        page.render_name_section(&mut text)?;
        page.render_synopsis_section(&mut text)?;
        page.render_description_section(&mut text)?;
        page.render_options_section(&mut text)?;
        commands.to_writer(&mut text)?;
        page.render_version_section(&mut text)
    };
    // Writing into memory cannot fail.
    let _ = parts();
    text
}

/// The commands below `command`, with the pages that describe them.
fn commands_section(command: &clap::Command) -> Roff {
    let mut section = Roff::new();
    let mut commands = command.get_subcommands().filter(|sub| sub.get_name() != "help").peekable();
    if commands.peek().is_some() {
        section.control("SH", ["COMMANDS"]);
    }
    for sub in commands {
        let mut line = vec![bold(sub.get_name())];
        for argument in sub.get_positionals() {
            let name = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
            let (open, close) = if argument.is_required_set() { ("", "") } else { ("[", "]") };
            line.extend([roman(format!(" {open}")), italic(name), roman(close)]);
        }
        if let Some(entry) = COMMANDS.iter().find(|entry| command.get_name() == "lunfs" && entry.name == sub.get_name())
        {
            // A page of its own has all the arguments.
            line.truncate(1);
            line.push(roman(format!(", see {}({SECTION})", page_name(entry))));
        }
        section.control("TP", []).text(line);
        section.text([roman(sub.get_about().map_or_else(String::new, ToString::to_string))]);
    }
    section
}

/// The page of a command.
fn page_name(command: &Command) -> String {
    command.called.first().map_or_else(|| format!("lunfs-{}", command.name), |name| (*name).to_owned())
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

    #[test]
    fn pages_that_are_referred_to_exist() {
        let pages = pages();
        let text = String::from_utf8(pages[0].1.clone()).unwrap();
        for (name, _) in &pages[1..] {
            assert!(text.replace("\\-", "-").contains(&format!("see {name}(8)")), "{name} is not in {text}");
        }
    }
}
