//! `umount.lunfs` and its like, which umount(8) calls, and `lunfs umount`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fuse_mount::error::{one_line, status};
use fuse_mount::mount::umount::{UmountOptions, Unmounted, umount};

use super::{Command, Run};

/// The table's entry.
pub(crate) const COMMAND: Command = Command {
    called: &[NAME, "umount.fuse.lunfs", "umount.fuseblk.lunfs"],
    status_usage: status::USAGE,
    ..Command::new::<Umount>("umount")
};

const NAME: &str = "umount.lunfs";

/// Unmount a volume, and return when everything is on disk
///
/// umount comes here by itself.
#[derive(Debug, Args)]
pub(crate) struct Umount {
    /// Mount point or device
    target: PathBuf,
    /// End requests that hang
    #[arg(short)]
    f: bool,
    /// Take it out of the tree now, end when nobody uses it any more
    #[arg(short)]
    l: bool,
    /// Do not write to /etc/mtab (which is never written to)
    #[arg(short)]
    n: bool,
    /// Accepted for umount(8): a volume that is in use is not remounted read-only
    #[arg(short)]
    r: bool,
    /// Say what is done
    #[arg(short)]
    v: bool,
    /// Type, as umount(8) gives it
    #[arg(short, value_name = "TYPE")]
    t: Option<String>,
}

impl Run for Umount {
    fn run(self) -> anyhow::Result<ExitCode> {
        match umount(&self.target, UmountOptions { lazy: self.l, force: self.f }) {
            Ok(Unmounted::Elsewhere) => {
                let target = self.target.display();
                eprintln!("{NAME}: {target} is unmounted; the volume is mounted elsewhere as well, and stays in use");
                Ok(ExitCode::SUCCESS)
            }
            Ok(Unmounted::Ended | Unmounted::Detached) => {
                if self.v {
                    println!("{NAME}: {} unmounted", self.target.display());
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                eprintln!("{NAME}: {}", one_line(&error));
                Ok(error.status().into())
            }
        }
    }
}
