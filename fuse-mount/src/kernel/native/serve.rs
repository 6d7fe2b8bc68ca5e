//! One request: from decoding to its handler, and from the handler's result to the answer.

use std::sync::Arc;

use fs_core::attr::{Capabilities, SetXattr, Setgid};

use super::super::drive::Driver;
use super::super::interruption::{Interruption, UnderWay};
use super::super::ioctl::{Asker, Ioctl};
use super::super::service::Service;
use super::super::{Entry, Errno, Found, Process, capabilities, groups, linux};
use super::abi::UNIQUE_INTERRUPT;
use super::abi::flags::write;
use super::abi::opcode::Opcode;
use super::answer::{Listing, Reply};
use super::channel::{Buffer, Channel};
use super::decode::{self, Forms, Refused, Unusable};
use super::notify::{Pages, Retrievals};
use super::request::{CopyFileRange, Header, Readdir, Request};

/// What all threads of a session share.
#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) service: Arc<S>,
    pub(super) driver: Driver,
    pub(super) requests: Arc<UnderWay>,
    pub(super) retrievals: Arc<Retrievals>,
    pub(super) channels: Vec<Arc<Channel>>,
    pub(super) forms: Forms,
    /// Longest answer with data, in bytes: the kernel does not ask for more than it was told it can get.
    pub(super) data_max_bytes: u32,
}

/// What becomes of the session after a request.
#[derive(Debug)]
pub(super) enum Next {
    Continue,
    /// The kernel waits for this answer before it lets go of the filesystem.
    Destroy(Reply),
}

impl<S: Service> Shared<S> {
    /// Serves what has arrived in `buffer`.
    ///
    /// # Errors
    /// [`Unusable`]
    pub(super) fn serve(&self, channel: &Arc<Channel>, buffer: &mut Buffer, len: usize) -> Result<Next, Unusable> {
        let header = decode::header(buffer.head(), len)?;
        let decoded = if header.opcode == Opcode::WRITE {
            let data_len = buffer.data_len();
            decode::request(&header, buffer.body_of_write(), data_len, self.forms)
        } else {
            decode::request(&header, buffer.body(), 0, self.forms)
        };
        if header.opcode.is_unanswered() || header.opcode == Opcode::INTERRUPT {
            self.note(&header, decoded);
            return Ok(Next::Continue);
        }
        let reply = Reply::new(channel, &self.requests, header.unique);
        match decoded {
            Ok(Request::Destroy) => return Ok(Next::Destroy(reply)),
            Ok(Request::Write(write)) => self.write(&header, write, buffer.take_data(), reply),
            Ok(request) => self.answer(header, request, reply),
            Err(refused) => {
                tracing::debug!(opcode = header.opcode.name(), ?refused, "a request that is not served");
                reply.error(match refused {
                    Refused::Malformed => Errno::INVAL,
                    Refused::Unknown => Errno::NOSYS,
                });
            }
        }
        Ok(Next::Continue)
    }

    /// What is not answered.
    fn note(&self, header: &Header, decoded: Result<Request, Refused>) {
        match decoded {
            Ok(Request::Forget(forgotten)) => {
                for (node, count) in forgotten {
                    self.service.forget(node, count);
                }
            }
            Ok(Request::Interrupt { of }) => self.interrupt(of),
            Ok(Request::NotifyReply { offset_bytes, data }) => {
                self.retrievals.arrived(header.unique, Pages { offset_bytes, data });
            }
            other => tracing::debug!(opcode = header.opcode.name(), ?other, "a message that says nothing"),
        }
    }

    /// The kernel gives an interruption to any thread, also before another thread has read the request that it is about.
    /// Then it wants to hear EAGAIN, on the channel that has the request, and sends it again. Which channel that is,
    /// nobody knows; on all others, and if the request has been answered, it hears nothing from it.
    fn interrupt(&self, of: u64) {
        if !self.requests.interrupt(of) {
            for channel in &self.channels {
                channel.send(of | UNIQUE_INTERRUPT, -Errno::AGAIN.0, &[]).ok();
            }
        }
    }

    fn write(&self, header: &Header, request: super::request::Write, data: Vec<u8>, reply: Reply) {
        let (service, node, caller) = (Arc::clone(&self.service), header.node, header.caller);
        let flags = linux::write_flags(request.flags, request.write_flags & write::CACHE != 0);
        self.driver.drive(async move {
            let written = service.write(node, request.offset_bytes, data, flags, caller).await;
            reply.result(written, Reply::written);
        });
    }

    fn answer(&self, header: Header, request: Request, reply: Reply) {
        let service = Arc::clone(&self.service);
        let interruption = Interruption::of(&self.requests, header.unique);
        let data_max_bytes = self.data_max_bytes;
        self.driver.drive(async move {
            match request {
                Request::Readdir(_) | Request::Readdirplus(_) => {
                    list(&*service, &header, &request, data_max_bytes, reply).await
                }
                Request::Read { len_bytes, .. } if len_bytes > data_max_bytes => reply.error(Errno::INVAL),
                request => answer(&*service, &header, request, interruption, reply).await,
            }
        });
    }
}

/// Listings: the answer grows while the directory is read.
async fn list<S: Service>(service: &S, header: &Header, request: &Request, len_max: u32, reply: Reply) {
    let listing = |request: &Readdir| Listing::new(usize::try_from(request.len_bytes.min(len_max)).unwrap_or(0));
    match request {
        Request::Readdir(request) => {
            let mut listing = listing(request);
            let listed = service.readdir(header.node, request.after, &mut |entry| listing.add(entry)).await;
            reply.result(listed, |reply, ()| reply.bytes(listing.bytes()));
        }
        Request::Readdirplus(request) => {
            let mut listing = listing(request);
            let mut add = |name: &_, entry: &_| listing.add_with_attributes(name, entry);
            let listed = service.readdirplus(header.node, request.after, &mut add).await;
            reply.result(listed, |reply, ()| reply.bytes(listing.bytes()));
        }
        _ => reply.error(Errno::NOSYS),
    }
}

async fn answer<S: Service>(service: &S, header: &Header, request: Request, interruption: Interruption, reply: Reply) {
    let &Header { node, caller, .. } = header;
    match request {
        Request::Lookup { name } => reply.result(service.lookup(node, &name).await, |reply, found| match found {
            Found::Entry(entry) => reply.entry(&entry),
            Found::Nothing { valid } => reply.no_entry(valid),
        }),
        Request::Getattr { .. } => reply.result(service.getattr(node).await, |reply, found| reply.attributes(&found)),
        Request::Setattr(request) => {
            let changed = service.setattr(node, &request.change, caller).await;
            reply.result(changed, |reply, found| reply.attributes(&found));
        }
        Request::Readlink => reply.result(service.readlink(node).await, |reply, target| reply.bytes(&target)),
        Request::Symlink { .. } | Request::Mknod { .. } | Request::Mkdir { .. } | Request::Link { .. } => {
            reply.result(make(service, header, request).await, |reply, entry| reply.entry(&entry));
        }
        Request::Create { name, mode, umask, flags, .. } => {
            let (exclusive, flags) = (linux::is_exclusive(flags), linux::open_flags(flags));
            let created = service.create(node, &name, mode, exclusive, flags, header.maker(umask)).await;
            reply.result(created, |reply, (entry, opened)| reply.created(&entry, opened));
        }
        Request::Unlink { name } => reply.empty(service.unlink(node, &name).await),
        Request::Rmdir { name } => reply.empty(service.rmdir(node, &name).await),
        Request::Rename { name, new_parent, new_name, flags } => match linux::rename_mode(flags) {
            Ok(mode) => reply.empty(service.rename((node, &name), (new_parent, &new_name), mode, caller).await),
            Err(errno) => reply.error(errno),
        },
        Request::Open { flags, .. } => {
            reply.result(service.open(node, linux::open_flags(flags), caller).await, Reply::opened);
        }
        Request::Read { offset_bytes, len_bytes, .. } => {
            let data = service.read(node, offset_bytes, len_bytes).await;
            reply.result(data, |reply, data| reply.bytes(&data));
        }
        Request::Statfs => reply.result(service.statfs().await, |reply, statfs| reply.statfs(&statfs)),
        // There is nothing to give back.
        Request::Release { .. } => reply.ok(),
        Request::Fsync { .. } => reply.empty(service.fsync(node).await),
        Request::Syncfs => reply.empty(service.syncfs().await),
        Request::Lseek { offset_bytes, whence, .. } => match linux::seek_target(whence) {
            Ok(target) => reply.result(service.seek(node, offset_bytes, target).await, Reply::offset),
            Err(errno) => reply.error(errno),
        },
        Request::Setxattr { name, value, flags, kill_sgid } => match set_xattr(header, &name, flags, kill_sgid) {
            Ok(how) => reply.empty(service.setxattr(node, &name, &value, &how, caller).await),
            Err(errno) => reply.error(errno),
        },
        Request::Getxattr { name, size_bytes } => {
            let value = service.getxattr(node, &name).await;
            reply.result(value, |reply, value| reply.xattr(&value, size_bytes));
        }
        Request::Listxattr { size_bytes } => {
            let names = service.listxattr(node, caller).await;
            reply.result(names, |reply, names| reply.xattr(&names, size_bytes));
        }
        Request::Removexattr { name } => reply.empty(service.removexattr(node, &name).await),
        Request::Getlk { lock, .. } => {
            reply.result(service.getlk(node, lock).await, |reply, found| reply.lock(found, lock));
        }
        Request::Setlk { lock, wait, .. } => {
            reply.empty(service.setlk(node, lock, wait.then_some(interruption)).await);
        }
        Request::Ioctl { command, data, out_size_bytes, .. } => match Ioctl::parse(command, &data) {
            Ok(request) => {
                let asker = asker(header, &request);
                let answered = service.ioctl(node, request, asker, interruption).await;
                let len_max = usize::try_from(out_size_bytes).unwrap_or(usize::MAX);
                reply.result(answered, |reply, answer| reply.ioctl(&answer.bytes(len_max)));
            }
            Err(errno) => reply.error(errno),
        },
        Request::Fallocate { offset_bytes, len_bytes, mode, .. } => match linux::allocation(mode) {
            Ok(how) => {
                reply.empty(service.fallocate(node, offset_bytes, len_bytes, how, caller, interruption).await);
            }
            Err(errno) => reply.error(errno),
        },
        Request::CopyFileRange(request) => {
            let copied = copy(service, header, &request, interruption).await;
            reply.result(copied, |reply, copied| match header.opcode {
                Opcode::COPY_FILE_RANGE_64 => reply.copied(copied),
                _ => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
            });
        }
        // The kernel does these by itself after the first refusal, or tells the process that there is no such thing. A birth
        // time is all that STATX could add to GETATTR, and there is none. FLUSH: nothing is kept back until a file is
        // closed. OPENDIR: an open directory has no state here.
        Request::Flush { .. }
        | Request::Opendir { .. }
        | Request::Access { .. }
        | Request::Bmap { .. }
        | Request::Poll { .. }
        | Request::Tmpfile { .. }
        | Request::Statx { .. } => reply.error(Errno::NOSYS),
        // Served elsewhere.
        Request::Forget(_)
        | Request::Write(_)
        | Request::Readdir(_)
        | Request::Readdirplus(_)
        | Request::Interrupt { .. }
        | Request::Destroy
        | Request::NotifyReply { .. } => reply.error(Errno::NOSYS),
    }
}

fn asker(header: &Header, request: &Ioctl) -> Asker {
    let capabilities =
        if request.is_privileged() { capabilities::of(header.pid, header.caller.uid) } else { Capabilities::default() };
    Asker { process: Process { caller: header.caller, pid: header.pid }, capabilities }
}

async fn copy<S: Service>(
    service: &S,
    header: &Header,
    request: &CopyFileRange,
    interruption: Interruption,
) -> Result<u64, Errno> {
    if request.flags != 0 {
        return Err(Errno::INVAL);
    }
    let source = (header.node, request.source_offset_bytes);
    let target = (request.target, request.target_offset_bytes);
    // The older of the two answers has 32 bits.
    let len = if header.opcode == Opcode::COPY_FILE_RANGE_64 { u64::MAX } else { u64::from(u32::MAX) };
    service.copy_file_range(source, target, request.len_bytes.min(len), header.caller, interruption).await
}

/// How an attribute is to be set. `kill_sgid` is the kernel's verdict on the setgid bit, if it gives one.
fn set_xattr(header: &Header, name: &[u8], flags: u32, kill_sgid: Option<bool>) -> Result<SetXattr, Errno> {
    let setgid = match kill_sgid {
        Some(true) => Setgid::Clear,
        Some(false) => Setgid::Keep,
        None => groups::setgid(name, header.pid),
    };
    Ok(SetXattr { mode: linux::xattr_mode(flags)?, setgid })
}

/// Requests that end in a new name.
async fn make<S: Service>(service: &S, header: &Header, request: Request) -> Result<Entry, Errno> {
    let &Header { node: parent, caller, .. } = header;
    match request {
        Request::Symlink { name, target, .. } => service.symlink(parent, &name, &target, caller).await,
        Request::Mknod { name, mode, rdev, umask, .. } => {
            service.mknod(parent, &name, mode, linux::device_parts(rdev), header.maker(umask)).await
        }
        Request::Mkdir { name, mode, umask, .. } => service.mkdir(parent, &name, mode, header.maker(umask)).await,
        Request::Link { source, name } => service.link(source, parent, &name, caller).await,
        _ => Err(Errno::NOSYS),
    }
}
