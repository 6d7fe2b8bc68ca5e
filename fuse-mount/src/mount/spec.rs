//! From what the user names to the device: paths, `UUID=`, `LABEL=` and their like.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::MountError;

/// Tags, the folder in which udev links devices by them, and what blkid calls them.
const TAGS: [(&str, &str, &str); 4] = [
    ("UUID=", "/dev/disk/by-uuid", "UUID"),
    ("LABEL=", "/dev/disk/by-label", "LABEL"),
    ("PARTUUID=", "/dev/disk/by-partuuid", "PARTUUID"),
    ("PARTLABEL=", "/dev/disk/by-partlabel", "PARTLABEL"),
];

/// The absolute path of the device or image that `spec` names, without links.
///
/// # Errors
/// When there is no such device.
pub fn resolve(spec: &Path) -> Result<PathBuf, MountError> {
    let missing = || MountError::NoSuchVolume { spec: spec.display().to_string() };
    let tag = spec.to_str().and_then(|text| {
        TAGS.iter()
            .find_map(|(prefix, folder, name)| Some((text.strip_prefix(prefix)?.trim_matches('"'), folder, name)))
    });
    match tag {
        Some((value, folder, name)) => {
            let link = Path::new(folder).join(encoded(value));
            let found = std::fs::canonicalize(link).ok().or_else(|| ask_blkid(name, value));
            found.ok_or_else(missing)
        }
        // What is wrong with a path is said by whoever opens it.
        None => std::fs::canonicalize(spec).or_else(|_| std::path::absolute(spec)).map_err(|_| missing()),
    }
}

/// blkid reads the devices itself, so it also works without udev.
fn ask_blkid(name: &str, value: &str) -> Option<PathBuf> {
    let answer =
        Command::new("blkid").args(["-l", "-o", "device", "-t"]).arg(format!("{name}={value}")).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let first = text.lines().next().filter(|line| !line.is_empty())?;
    std::fs::canonicalize(first).ok()
}

/// What blkid takes the content of a device for. `None` where it knows nothing.
#[must_use]
pub fn probe(device: &Path) -> Option<String> {
    let answer =
        Command::new("blkid").args(["-p", "-o", "value", "-s", "TYPE", "-s", "PTTYPE"]).arg(device).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    text.lines().next().filter(|line| !line.is_empty()).map(str::to_owned)
}

/// As udev writes values in file names: what is not harmless becomes `\x` and two digits.
fn encoded(value: &str) -> String {
    let mut name = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii() {
            name.push(c);
        } else {
            for byte in c.to_string().bytes() {
                name.push_str(&format!("\\x{byte:02x}"));
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_encoded_as_udev_does() {
        assert_eq!(encoded("my data/1"), "my\\x20data\\x2f1");
        assert_eq!(encoded("plain-1.2_ä"), "plain-1.2_ä");
    }

    #[test]
    fn an_unknown_tag_names_what_was_asked_for() {
        let error = resolve(Path::new("UUID=00000000-dead-beef-0000-000000000000")).unwrap_err();
        assert!(error.to_string().starts_with("UUID=00000000-dead-beef-0000-000000000000: no such volume"));
    }

    #[test]
    fn a_path_becomes_absolute_even_if_nothing_is_there() {
        assert_eq!(resolve(Path::new("/nowhere/at/all")).unwrap(), Path::new("/nowhere/at/all"));
        assert!(resolve(Path::new("Cargo.toml")).unwrap().is_absolute());
    }
}
