//! `mount.lunfs`, which mount(8) calls, and `lunfs mount`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fuse_mount::daemon::{self, MountRequest};
use fuse_mount::error::{MountError, one_line, status};
use fuse_mount::mount::options::Options;
use fuse_mount::mount::remount::remount;

use super::{Command, Run};

/// The table's entry.
pub(crate) const COMMAND: Command = Command {
    called: &[NAME, "mount.fuse.lunfs", "mount.fuseblk.lunfs"],
    status_usage: status::USAGE,
    ..Command::new::<Mount>("mount")
};

const NAME: &str = "mount.lunfs";

/// Told to the daemon by the command that starts it.
const DETACHED: &str = "--detached";

/// Mount a volume
///
/// Returns when it can be used; a daemon stays behind. mount -t lunfs and fstab come here, too.
#[derive(Debug, Args)]
pub(crate) struct Mount {
    /// Block device, image file, .vhdx file, UUID=… or LABEL=…
    spec: PathBuf,
    /// Directory to mount it on
    dir: PathBuf,
    /// Options, separated by commas
    #[arg(short, value_name = "OPTIONS", long_help = OPTIONS_HELP)]
    o: Vec<String>,
    /// Check everything, and do not mount
    #[arg(short)]
    f: bool,
    /// Do not write to /etc/mtab (which is never written to)
    #[arg(short)]
    n: bool,
    /// Mount read-only, as -o ro
    #[arg(short)]
    r: bool,
    /// Mount for reading and writing, as -o rw
    #[arg(short, overrides_with = "r")]
    w: bool,
    /// Ignore unknown options
    #[arg(short)]
    s: bool,
    /// Say what is done
    #[arg(short)]
    v: bool,
    /// Type, as mount(8) gives it
    #[arg(short, value_name = "TYPE")]
    t: Option<String>,
    /// Stay in front, as -o foreground
    #[arg(long)]
    foreground: bool,
    #[arg(long = "detached", hide = true)]
    detached: bool,
}

const OPTIONS_HELP: &str = "\
Options, separated by commas:
  single             one node only (required in this version)
  ro, rw             read-only, or for reading and writing
  noatime, relatime, strictatime
                     when reading changes the time of last access
  nosuid, nodev, noexec, sync
                     as in mount(8)
  acl, noacl         access control lists count (acl), or are left alone
  discard, nodiscard tell the device which blocks become free, or leave that to
                     fstrim(8) (nodiscard)
  commit=SECONDS     longest time that changes stay in memory (5)
  cache=SIZE         memory for cached blocks (256M)
  no_io_uring        read by threads instead of io_uring
  transport=fuser    speak with the kernel through the library fuser (native)
  foreground         stay in front, log to standard error
  remount            change ro, rw, nosuid, nodev, noexec and sync of what is mounted; all else stays
Options of fstab, systemd and mount.gfs2 that mean nothing here are ignored.";

impl Run for Mount {
    fn run(self) -> anyhow::Result<ExitCode> {
        let request = match self.request() {
            Ok(request) => request,
            Err(error) => return Ok(failed(&error)),
        };
        if self.detached {
            return Ok(daemon::run_as_daemon(&request).into());
        }
        if request.options.remount {
            return Ok(remount(&request).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS));
        }
        if request.options.foreground {
            return Ok(daemon::run_in_front(&request).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS));
        }
        let mut daemon_arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        daemon_arguments.push(DETACHED.into());
        if let Err(error) = daemon::start(&request, &daemon_arguments) {
            return Ok(failed(&error));
        }
        if self.v {
            println!("{NAME}: {} mounted on {}", self.spec.display(), self.dir.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Mount {
    fn request(&self) -> Result<MountRequest, MountError> {
        let mut lists = self.o.clone();
        lists.extend(self.r.then(|| "ro".to_owned()));
        lists.extend(self.w.then(|| "rw".to_owned()));
        lists.extend(self.foreground.then(|| "foreground".to_owned()));
        let options = Options::parse(&lists, self.s)?;
        Ok(MountRequest { spec: self.spec.clone(), target: self.dir.clone(), options, fake: self.f })
    }
}

/// One line, and the status that mount(8) passes on.
fn failed(error: &MountError) -> ExitCode {
    eprintln!("{NAME}: {}", one_line(error));
    error.status().into()
}
