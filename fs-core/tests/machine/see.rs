//! A tree as a filesystem shows it, and the comparison with the model.

use std::collections::BTreeMap;

use fs_core::addr::InodeNo;
use fs_core::error::FsError;
use fs_core::fs::Fs;
use posix_model::acl::Acl;
use posix_model::op::{Kind, Stat};
use posix_model::tree::{self, Id, Tree};

use super::run::{ACCESS, DEFAULT, ROOT, same_stat, stat_of};

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// An inode.
pub(crate) struct Seen {
    stat: Stat,
    content: Vec<u8>,
    entries: BTreeMap<String, InodeNo>,
    attributes: Attributes,
}

/// All below a directory.
pub(crate) struct View {
    root: InodeNo,
    inodes: BTreeMap<InodeNo, Seen>,
}

/// Reads everything below `root`.
pub(crate) async fn see(fs: &Fs, root: InodeNo) -> Result<View, FsError> {
    let mut inodes = BTreeMap::new();
    let mut left = vec![(root, fs.getattr(root).await?)];
    while let Some((ino, attr)) = left.pop() {
        if inodes.contains_key(&ino) {
            continue;
        }
        let stat = stat_of(&attr);
        let (mut entries, mut content) = (BTreeMap::new(), Vec::new());
        match stat.kind {
            Kind::Directory => {
                let mut found = Vec::new();
                fs.readdirplus(ino, 0, &mut |entry, attr| {
                    if entry.name != b"." && entry.name != b".." {
                        found.push((String::from_utf8_lossy(&entry.name).into_owned(), *attr));
                    }
                    true
                })
                .await?;
                for (name, attr) in found {
                    fs.forget(attr.ino, 1);
                    entries.insert(name, attr.ino);
                    left.push((attr.ino, attr));
                }
            }
            Kind::File => content = read(fs, ino).await?,
            Kind::Symlink => content = fs.readlink(ino).await?,
            _ => {}
        }
        let mut attributes = Attributes::new();
        for name in fs.listxattr(ino, ROOT).await?.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            attributes.insert(name.to_vec(), fs.getxattr(ino, name).await?);
        }
        inodes.insert(ino, Seen { stat, content, entries, attributes });
    }
    Ok(View { root, inodes })
}

async fn read(fs: &Fs, ino: InodeNo) -> Result<Vec<u8>, FsError> {
    let mut content = Vec::new();
    loop {
        let piece = fs.read(ino, content.len() as u64, 1 << 20).await?;
        if piece.is_empty() {
            return Ok(content);
        }
        content.extend_from_slice(&piece);
    }
}

fn attributes(inode: &tree::Inode) -> Attributes {
    let user = inode.xattrs.iter().map(|(name, value)| (format!("user.{name}").into_bytes(), value.to_vec()));
    let list = |name: &[u8], list: &Option<Acl>| list.map(|list| (name.to_vec(), list.to_bytes()));
    user.chain(list(ACCESS, &inode.access)).chain(list(DEFAULT, &inode.default)).collect()
}

impl View {
    pub(crate) fn content(&self, ino: InodeNo) -> &[u8] {
        &self.inodes[&ino].content
    }

    /// Why this is not `tree`; else which inode is which. What stands in files is for `content` to judge.
    pub(crate) fn compare(
        &self,
        tree: &Tree,
        mut content: impl FnMut(Id, &[u8]) -> Result<(), String>,
    ) -> Result<BTreeMap<Id, InodeNo>, String> {
        let mut inos = BTreeMap::from([(tree::ROOT, self.root)]);
        let mut left = vec![(String::from("."), tree::ROOT)];
        while let Some((path, id)) = left.pop() {
            let (inode, seen) = (tree.inode(id), &self.inodes[&inos[&id]]);
            if !same_stat(&Stat { size: seen.stat.size, ..inode.stat() }, &seen.stat) {
                return Err(format!("{path} is {:?} instead of {:?}", seen.stat, inode.stat()));
            }
            if !inode.entries.keys().eq(seen.entries.keys()) {
                let more: Vec<_> = seen.entries.keys().filter(|name| !inode.entries.contains_key(*name)).collect();
                let less: Vec<_> = inode.entries.keys().filter(|name| !seen.entries.contains_key(*name)).collect();
                return Err(format!("{path} has {more:?} more and {less:?} less"));
            }
            for (name, child) in &inode.entries {
                let ino = seen.entries[name];
                let path = format!("{path}/{}", &name[..name.len().min(40)]);
                match inos.insert(*child, ino) {
                    Some(other) if other != ino => return Err(format!("{path}: two names of one file name two")),
                    Some(_) => {}
                    None => left.push((path, *child)),
                }
            }
            if attributes(inode) != seen.attributes {
                let names = |of: &Attributes| {
                    of.iter()
                        .map(|(name, value)| format!("{}({})", String::from_utf8_lossy(name), value.len()))
                        .collect::<Vec<_>>()
                };
                let (found, wanted) = (names(&seen.attributes), names(&attributes(inode)));
                return Err(format!("{path} has the attributes {found:?} instead of {wanted:?}, or other values"));
            }
            if inode.kind == Kind::Symlink && *inode.content != seen.content {
                return Err(format!("{path} leads elsewhere"));
            }
            if inode.kind == Kind::File {
                content(id, &seen.content).map_err(|reason| format!("{path}: {reason}"))?;
            }
        }
        let mut known: Vec<_> = inos.values().collect();
        known.sort_unstable();
        if known.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("one inode for two files".to_owned());
        }
        Ok(inos)
    }

    /// Why this is not exactly `tree`.
    pub(crate) fn differs(&self, tree: &Tree) -> Option<String> {
        let exactly = |id: Id, found: &[u8]| {
            let wanted = &tree.inode(id).content;
            if **wanted == found { Ok(()) } else { Err(difference(wanted, found)) }
        };
        self.compare(tree, exactly).err()
    }
}

/// Where two contents differ.
pub(crate) fn difference(wanted: &[u8], found: &[u8]) -> String {
    if wanted.len() != found.len() {
        return format!("{} bytes instead of {}", found.len(), wanted.len());
    }
    let at = wanted.iter().zip(found).position(|(wanted, found)| wanted != found).unwrap_or(0);
    format!("byte {at} is {:#x} instead of {:#x}", found[at], wanted[at])
}
