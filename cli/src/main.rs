//! The one executable of lunfs.
//!
//! `mkfs.lunfs`, `mount.lunfs` and the others are links to it: the name it is called by picks the command. Everything
//! else is in [`commands`], one file each.

mod commands;
mod output;

fn main() -> std::process::ExitCode {
    commands::main(std::env::args_os().collect())
}
