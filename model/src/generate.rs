//! Random steps that mostly make sense: names that exist, sizes around the blocks of the volume.

use crate::acl::Acl;
use crate::op::{GROUPS, Kind, Op, Path, Rename, SLOTS, Step, Target, USERS, XattrMode};
use crate::rng::Rng;
use crate::tree::{Id, Tree};

/// What steps shall be like.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Block size of the filesystem, in bytes.
    pub block_bytes: u64,
    /// Files do not grow beyond this, in bytes.
    pub file_bytes_max: u64,
    /// One write takes this at most, in bytes.
    pub write_bytes_max: u64,
    /// Values of attributes have this at most, in bytes.
    pub xattr_bytes_max: u64,
    /// Others than the superuser ask as well.
    pub users: bool,
    /// How many steps out of a hundred ask for durability.
    pub syncs: u64,
    /// Entries that all directories have together, about.
    pub names_max: usize,
    /// A write stays within one block: where space is short, it is done or not.
    pub single_blocks: bool,
}

/// A source of steps.
#[derive(Debug, Clone)]
pub struct Generator {
    profile: Profile,
    rng: Rng,
    tag: u64,
    /// What was written to lately.
    written: Vec<Target>,
}

/// As many are remembered.
const WRITTEN_MAX: usize = 4;

impl Generator {
    /// Steps after `profile`, from `rng`.
    #[must_use]
    pub fn new(profile: Profile, mut rng: Rng) -> Self {
        let tag = rng.next_u64() >> 16 << 16;
        Self { profile, rng, tag, written: Vec::new() }
    }

    /// The next step, in a tree that is as far as `tree`.
    pub fn step(&mut self, tree: &Tree) -> Step {
        let user = if self.profile.users && self.rng.chance(60) { self.rng.below(USERS.len() as u64) } else { 0 };
        Step { user: user as usize, op: self.op(tree) }
    }

    /// A whole sequence, which `tree` does on the way.
    pub fn steps(&mut self, tree: &mut Tree, count: usize) -> Vec<Step> {
        let mut steps = Vec::with_capacity(count);
        for _ in 0..count {
            let step = self.step(tree);
            let _ = tree.apply(&step);
            steps.push(step);
        }
        steps
    }

    fn op(&mut self, tree: &Tree) -> Op {
        let names = tree.names();
        if self.rng.chance(self.profile.syncs) {
            return match self.rng.below(10) {
                0 => Op::Sync,
                1..3 => Op::Fsync { target: Target::Named(self.directory(tree, &names)) },
                3..7 if !self.written.is_empty() => Op::Fsync { target: self.rng.pick(&self.written).clone() },
                _ => Op::Fsync { target: self.file(tree, &names) },
            };
        }
        // An empty tree answers most steps with ENOENT: it fills up first.
        let sparse = names.len() < self.profile.names_max / 3 && self.rng.chance(40);
        let crowded = names.len() >= self.profile.names_max;
        let (from, to) = if sparse { (84, 100) } else { (0, if crowded { 84 } else { 100 }) };
        match from + self.rng.below(to - from) {
            0..26 => self.write(tree, &names),
            26..33 => {
                let target = self.file(tree, &names);
                let size = self.size_of(tree, &target);
                let size = match self.rng.below(4) {
                    0 => 0,
                    1 => (size + self.rng.below(5 * self.profile.block_bytes)).min(self.profile.file_bytes_max),
                    _ => self.rng.below(size + 1),
                };
                Op::Truncate { target, size }
            }
            33..43 => Op::Unlink { path: self.any(tree, &names, |kind| kind != Kind::Directory) },
            43..47 => Op::Rmdir { path: self.any(tree, &names, |kind| kind == Kind::Directory) },
            47..57 => self.rename(tree, &names),
            57..66 => self.attributes(tree, &names),
            66..70 => Op::Open { path: self.any(tree, &names, |kind| kind == Kind::File), slot: self.slot() },
            70..72 => Op::Close { slot: self.slot() },
            72..76 => self.look(tree, &names),
            76..81 => self.xattr(tree, &names),
            81..84 => Op::Link {
                from: self.any(tree, &names, |kind| kind != Kind::Directory),
                to: self.new_name(tree, &names),
            },
            84..92 => {
                let path = self.new_name(tree, &names);
                Op::Create { path, kind: Kind::File, mode: self.mode() & 0o777, rdev: (0, 0) }
            }
            92..96 => Op::Mkdir { path: self.new_name(tree, &names), mode: self.mode() & 0o1777 },
            96..98 => {
                let text = "x".repeat(1 + self.rng.below(180) as usize);
                Op::Symlink { path: self.new_name(tree, &names), text }
            }
            _ => {
                let kind = *self.rng.pick(&[Kind::Fifo, Kind::Socket, Kind::Char, Kind::Block]);
                let rdev = (self.rng.below(4000) as u32, self.rng.below(1 << 20) as u32);
                Op::Create { path: self.new_name(tree, &names), kind, mode: self.mode() & 0o777, rdev }
            }
        }
    }

    fn slot(&mut self) -> usize {
        self.rng.below(SLOTS as u64) as usize
    }

    fn mode(&mut self) -> u32 {
        *self
            .rng
            .pick(&[0o644, 0o600, 0o755, 0o700, 0o666, 0o777, 0o640, 0o660, 0o4755, 0o2755, 0o2775, 0o1777, 0o444, 0])
    }

    fn name(&mut self) -> String {
        match self.rng.below(24) {
            0 => format!("a long name {:0>170}", self.rng.below(8)),
            number if number < 12 => format!("n{}", self.rng.below(12)),
            _ => format!("m{}", self.rng.below(120)),
        }
    }

    /// A name in some directory, which mostly is not there yet.
    fn new_name(&mut self, tree: &Tree, names: &[(Path, Id)]) -> Path {
        let mut path = self.directory(tree, names);
        if path.0.len() > 3 {
            path.0.truncate(1);
        }
        path.0.push(self.name());
        path
    }

    fn directory(&mut self, tree: &Tree, names: &[(Path, Id)]) -> Path {
        if self.rng.chance(40) {
            return Path::default();
        }
        self.any(tree, names, |kind| kind == Kind::Directory)
    }

    /// A name of a kind; now and then one of any kind, or one that leads nowhere.
    fn any(&mut self, tree: &Tree, names: &[(Path, Id)], fits: impl Fn(Kind) -> bool) -> Path {
        if self.rng.chance(3) {
            return Path(vec![self.name(), self.name()]);
        }
        let strict = self.rng.chance(95);
        let found: Vec<&Path> =
            names.iter().filter(|(_, id)| !strict || fits(tree.inode(*id).kind)).map(|(path, _)| path).collect();
        if found.is_empty() { Path(vec![self.name()]) } else { (*self.rng.pick(&found)).clone() }
    }

    fn file(&mut self, tree: &Tree, names: &[(Path, Id)]) -> Target {
        let open: Vec<usize> = (0..SLOTS).filter(|slot| tree.slot(*slot).is_some()).collect();
        if !open.is_empty() && self.rng.chance(25) {
            return Target::Open(*self.rng.pick(&open));
        }
        Target::Named(self.any(tree, names, |kind| kind == Kind::File))
    }

    fn size_of(&self, tree: &Tree, target: &Target) -> u64 {
        tree.find(target).map_or(0, |id| tree.inode(id).content.len() as u64)
    }

    fn write(&mut self, tree: &Tree, names: &[(Path, Id)]) -> Op {
        let target = self.file(tree, names);
        let (size, block) = (self.size_of(tree, &target), self.profile.block_bytes);
        let limit = self.profile.file_bytes_max;
        let mut at = match self.rng.below(5) {
            0 => None,
            1 => Some(size),
            2 => Some(self.rng.below(size + 1)),
            3 => Some(self.rng.below(size + 1) / block * block),
            _ => Some(self.rng.below(limit)),
        };
        let start = at.unwrap_or(size);
        let most = *self.rng.pick(&[20, block, 3 * block, self.profile.write_bytes_max]);
        let mut len = 1 + self.rng.below(most.min(self.profile.write_bytes_max));
        if self.rng.chance(30) {
            len = len.next_multiple_of(block);
        }
        if self.profile.single_blocks {
            len = 1 + len % (block - start % block);
            at = Some(start);
        }
        if start + len > limit {
            (at, len) = (Some(0), len.min(limit));
            if self.profile.single_blocks {
                len = len.min(block);
            }
        }
        self.tag += 1;
        self.written.push(target.clone());
        if self.written.len() > WRITTEN_MAX {
            self.written.remove(0);
        }
        Op::Write { target, at, len: len as usize, tag: self.tag, sync: self.rng.chance(4) }
    }

    fn rename(&mut self, tree: &Tree, names: &[(Path, Id)]) -> Op {
        let mode = match self.rng.below(10) {
            0 => Rename::NoReplace,
            1..3 => Rename::Exchange,
            _ => Rename::Replace,
        };
        let directory = self.rng.chance(25);
        let fits = move |kind: Kind| directory == (kind == Kind::Directory);
        let from = self.any(tree, names, fits);
        let to = if mode == Rename::Exchange || self.rng.chance(45) {
            self.any(tree, names, fits)
        } else {
            self.new_name(tree, names)
        };
        Op::Rename { from, to, mode }
    }

    fn attributes(&mut self, tree: &Tree, names: &[(Path, Id)]) -> Op {
        let path = if self.rng.chance(5) { Path::default() } else { self.any(tree, names, |_| true) };
        match self.rng.below(10) {
            0..4 => Op::Chmod { path, mode: self.mode() },
            4..6 => {
                let uid = USERS[self.rng.below(USERS.len() as u64) as usize].uid;
                let gid = *self.rng.pick(&GROUPS);
                let (uid, gid) =
                    *self.rng.pick(&[(Some(uid), None), (None, Some(gid)), (None, Some(gid)), (Some(uid), Some(gid))]);
                Op::Chown { path, uid, gid }
            }
            6..8 => Op::Utimes { path, mtime: 1_000_000 + self.rng.below(1_000_000_000) as i64 },
            _ => {
                let default = self.rng.chance(30);
                let acl = self.rng.chance(75).then(|| self.acl());
                Op::SetAcl { path, default, acl }
            }
        }
    }

    fn acl(&mut self) -> Acl {
        let user = (USERS[1 + self.rng.below(3) as usize].uid, self.rng.below(8) as u32);
        let named = (*self.rng.pick(&[2000, 2001]), self.rng.below(8) as u32);
        let (user, named) = *self.rng.pick(&[(Some(user), None), (None, Some(named)), (Some(user), Some(named))]);
        let any = |rng: &mut Rng| rng.below(8) as u32;
        Acl {
            owner: self.rng.below(8) as u32,
            user,
            group: any(&mut self.rng),
            named,
            mask: any(&mut self.rng),
            other: any(&mut self.rng),
        }
    }

    fn xattr(&mut self, tree: &Tree, names: &[(Path, Id)]) -> Op {
        let path = self.any(tree, names, |kind| matches!(kind, Kind::File | Kind::Directory));
        let name = format!("{}{}", self.rng.below(6), "n".repeat(*self.rng.pick(&[1, 20, 90])));
        if self.rng.chance(25) {
            return Op::RemoveXattr { path, name };
        }
        let most = *self.rng.pick(&[1, 40, self.profile.block_bytes, self.profile.xattr_bytes_max]);
        let len = self.rng.below(most.min(self.profile.xattr_bytes_max)) as usize;
        let mode = *self.rng.pick(&[XattrMode::Any, XattrMode::Any, XattrMode::Create, XattrMode::Replace]);
        self.tag += 1;
        Op::SetXattr { path, name, len, tag: self.tag, mode }
    }

    fn look(&mut self, tree: &Tree, names: &[(Path, Id)]) -> Op {
        match self.rng.below(5) {
            0 => Op::Stat { path: self.any(tree, names, |_| true) },
            1 => Op::Readlink { path: self.any(tree, names, |kind| kind == Kind::Symlink) },
            2 => Op::List { path: self.directory(tree, names) },
            _ => {
                let target = self.file(tree, names);
                let size = self.size_of(tree, &target);
                Op::Read { target, at: self.rng.below(size + 1), len: self.rng.below(size + 100) as usize }
            }
        }
    }
}
