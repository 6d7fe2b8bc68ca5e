//! `lunfs install`: one file, and links where mount(8), umount(8), mkfs(8) and fsck(8) look.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use clap_complete::Shell;

use super::{COMMANDS, Command, Run, completion, man};

/// The table's entry.
pub(crate) const COMMAND: Command = Command::new::<Install>("install");

/// Where mount(8), umount(8), mkfs(8) and fsck(8) look for their helpers, whatever the prefix is.
const LINKS_IN: &str = "/sbin";

/// Install this program, so that mount -t lunfs and fstab work
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Where the program goes: PREFIX/sbin/lunfs
    #[arg(long, default_value = "/usr/local")]
    prefix: PathBuf,
    /// Put everything below this folder instead of / (for packages)
    #[arg(long, value_name = "DIR", default_value = "/")]
    destdir: PathBuf,
    /// Take away what install has put there
    #[arg(long)]
    uninstall: bool,
}

/// A file that is generated: below PREFIX, with its content.
struct Generated {
    path: PathBuf,
    content: Vec<u8>,
}

/// Manual pages and completions.
fn generated() -> Vec<Generated> {
    let page = |(name, content): (String, Vec<u8>)| Generated {
        path: format!("share/man/man{0}/{name}.{0}", man::SECTION).into(),
        content,
    };
    let completion = |(shell, path): (Shell, &str)| Generated { path: path.into(), content: completion::script(shell) };
    let completions = [
        (Shell::Bash, "share/bash-completion/completions/lunfs"),
        (Shell::Zsh, "share/zsh/site-functions/_lunfs"),
        (Shell::Fish, "share/fish/vendor_completions.d/lunfs.fish"),
    ];
    man::pages().into_iter().map(page).chain(completions.into_iter().map(completion)).collect()
}

impl Run for Install {
    fn run(self) -> Result<ExitCode> {
        if self.uninstall { uninstall(&self) } else { install(&self) }.map(|()| ExitCode::SUCCESS)
    }
}

/// Where things are: as the installed system will see them, and where they are written to now.
struct Layout {
    /// The program, as the links will name it.
    program: PathBuf,
    destdir: PathBuf,
    prefix: PathBuf,
}

impl Layout {
    fn new(args: &Install) -> Result<Self> {
        if !args.prefix.is_absolute() {
            bail!("--prefix {}: needs an absolute path", args.prefix.display());
        }
        let destdir = std::path::absolute(&args.destdir)?;
        Ok(Self { program: args.prefix.join("sbin/lunfs"), destdir, prefix: args.prefix.clone() })
    }

    fn written(&self, path: &Path) -> PathBuf {
        self.destdir.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn links(&self) -> impl Iterator<Item = PathBuf> {
        let names = COMMANDS.iter().flat_map(|command| command.called);
        names.map(|name| self.written(&Path::new(LINKS_IN).join(name)))
    }

    fn generated(&self) -> Vec<Generated> {
        let place = |file: Generated| Generated { path: self.written(&self.prefix.join(&file.path)), ..file };
        generated().into_iter().map(place).collect()
    }
}

fn install(args: &Install) -> Result<()> {
    let layout = Layout::new(args)?;
    let program = layout.written(&layout.program);
    copy_program(&program)?;
    println!("{}", program.display());
    for link in layout.links() {
        if !is_ours(&link, &layout)? {
            bail!("{} is there already and does not belong to lunfs; move it away first", link.display());
        }
        replace(&link, |new| symlink(&layout.program, new))?;
        println!("{} -> {}", link.display(), layout.program.display());
    }
    for file in layout.generated() {
        replace(&file.path, |new| fs::write(new, &file.content))?;
        println!("{}", file.path.display());
    }
    Ok(())
}

fn uninstall(args: &Install) -> Result<()> {
    let layout = Layout::new(args)?;
    let ours: Vec<PathBuf> = layout.links().filter(|link| is_ours(link, &layout).unwrap_or(false)).collect();
    let files = layout.generated().into_iter().map(|file| file.path);
    for path in ours.into_iter().chain(files).chain([layout.written(&layout.program)]) {
        match fs::remove_file(&path) {
            Ok(()) => println!("removed {}", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be removed", path.display())),
        }
    }
    Ok(())
}

/// A daemon may be running from the old file: it keeps that, because the new one takes only its name.
fn copy_program(target: &Path) -> Result<()> {
    let source = std::env::current_exe().context("this program's file cannot be found")?;
    if fs::canonicalize(target).is_ok_and(|installed| installed == source) {
        return Ok(());
    }
    replace(target, |new| {
        fs::copy(&source, new)?;
        fs::set_permissions(new, fs::Permissions::from_mode(0o755))
    })
}

/// Makes a file beside `path` and renames it over it, so that there is always a complete one.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let folder = path.parent().context("the root directory is no place for a file")?;
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.new"));
    fs::remove_file(&new).ok();
    make(&new)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("{} cannot be written (install needs root)", path.display()))
}

/// Whether a link may be replaced or removed: it is not there, or leads to a lunfs.
fn is_ours(link: &Path, layout: &Layout) -> Result<bool> {
    match fs::read_link(link) {
        Ok(target) => Ok(target == layout.program || target.file_name() == layout.program.file_name()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be looked at", link.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(destdir: &Path, uninstall: bool) -> Install {
        Install { prefix: "/usr".into(), destdir: destdir.to_owned(), uninstall }
    }

    #[test]
    fn what_is_installed_is_taken_away_again_and_nothing_else() {
        let root = std::env::temp_dir().join(format!("lunfs-install-{}", std::process::id()));
        fs::create_dir_all(root.join("sbin")).unwrap();
        fs::write(root.join("sbin/mount.other"), "").unwrap();
        for _ in 0..2 {
            install(&args(&root, false)).unwrap();
        }
        assert_eq!(fs::read_link(root.join("sbin/mount.lunfs")).unwrap(), Path::new("/usr/sbin/lunfs"));
        assert!(root.join("usr/sbin/lunfs").is_file());
        uninstall(&args(&root, true)).unwrap();
        assert_eq!(fs::read_dir(root.join("sbin")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(root.join("usr/sbin")).unwrap().count(), 0);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_file_of_somebody_else_is_not_replaced() {
        let root = std::env::temp_dir().join(format!("lunfs-install-other-{}", std::process::id()));
        fs::create_dir_all(root.join("sbin")).unwrap();
        fs::write(root.join("sbin/mount.lunfs"), "theirs").unwrap();
        assert!(install(&args(&root, false)).is_err());
        uninstall(&args(&root, true)).unwrap();
        assert_eq!(fs::read(root.join("sbin/mount.lunfs")).unwrap(), b"theirs");
        fs::remove_dir_all(root).unwrap();
    }
}
