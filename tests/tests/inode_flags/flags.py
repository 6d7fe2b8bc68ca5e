"""Sets flags of inodes in the current folder, tries what they forbid, and prints what comes of it."""
import errno
import fcntl
import hashlib
import os
import stat
import struct
import sys

GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR = 0x80086601, 0x40086602, 0x801C581F, 0x401C5820
SYNC, IMMUTABLE, APPEND, NOATIME, JOURNAL = 0x8, 0x10, 0x20, 0x80, 0x4000
# What both filesystems have; ext4 shows extents besides.
SHOWN = SYNC | IMMUTABLE | APPEND | NOATIME | JOURNAL
NAMES = {SYNC: "S", IMMUTABLE: "i", APPEND: "a", NOATIME: "A", JOURNAL: "j"}


def name_of(error):
    return errno.errorcode[error.errno] if isinstance(error, OSError) else repr(error)


def get(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return struct.unpack_from("i", fcntl.ioctl(fd, GETFLAGS, bytes(8)))[0]
    finally:
        os.close(fd)


def put(path, flags):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, SETFLAGS, struct.pack("q", flags))
        return "ok"
    except OSError as error:
        return name_of(error)
    finally:
        os.close(fd)


def change(path, on=0, off=0):
    return put(path, get(path) & ~off | on)


def tried(what, call):
    try:
        result = call()
        print(what, "ok" if result is None or isinstance(result, (int, os.stat_result)) else result)
    except OSError as error:
        print(what, name_of(error))


def write(path, flags, data=b"more", offset=None):
    fd = os.open(path, flags)
    try:
        if offset is None:
            os.write(fd, data)
        else:
            os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:12]


def fresh(base):
    """A folder with a file, a link to it, a subfolder, and what else there is."""
    os.mkdir(base)
    with open(base + "/f", "wb") as file:
        file.write(b"content" * 1000)
    os.mkdir(base + "/d")
    os.mkdir(base + "/empty")
    with open(base + "/d/g", "wb") as file:
        file.write(b"g")
    with open(base + "/other", "wb") as file:
        file.write(b"other")
    os.symlink("f", base + "/s")


def attempts(base):
    """What somebody with every permission tries on base/f and in base/d, in an order that takes nothing away early."""
    f, g, d, new = base + "/f", base + "/d/g", base + "/d", base + "/d/new"
    return [
        ("read f", lambda: digest(f)),
        ("list d", lambda: ",".join(sorted(os.listdir(d)))),
        ("append f", lambda: write(f, os.O_WRONLY | os.O_APPEND)),
        ("write f", lambda: write(f, os.O_WRONLY, offset=0)),
        ("read and write f", lambda: write(f, os.O_RDWR, offset=0)),
        ("open f with O_TRUNC", lambda: os.close(os.open(f, os.O_WRONLY | os.O_TRUNC))),
        ("open f with O_APPEND and O_TRUNC", lambda: os.close(os.open(f, os.O_WRONLY | os.O_APPEND | os.O_TRUNC))),
        ("open f with O_CREAT", lambda: os.close(os.open(f, os.O_WRONLY | os.O_CREAT))),
        ("truncate f", lambda: os.truncate(f, 3)),
        ("extend f", lambda: os.truncate(f, 300000)),
        ("chmod f", lambda: os.chmod(f, 0o600)),
        ("chown f", lambda: os.chown(f, 7, 7)),
        ("touch f", lambda: os.utime(f)),
        ("set times of f", lambda: os.utime(f, (5, 5))),
        ("setxattr f", lambda: os.setxattr(f, "user.x", b"y")),
        ("removexattr f", lambda: os.removexattr(f, "user.old")),
        ("set a list of f", lambda: os.setxattr(f, "system.posix_acl_access", b"\2\0\0\0\1\0\6\0\xff\xff\xff\xff\4\0\4\0\xff\xff\xff\xff\40\0\4\0\xff\xff\xff\xff")),
        ("link f", lambda: os.link(f, base + "/link")),
        ("create in d", lambda: os.close(os.open(new, os.O_CREAT | os.O_WRONLY))),
        ("mkdir in d", lambda: os.mkdir(d + "/sub")),
        ("symlink in d", lambda: os.symlink("x", d + "/sym")),
        ("mknod in d", lambda: os.mkfifo(d + "/fifo")),
        ("link into d", lambda: os.link(base + "/other", d + "/linked")),
        ("move into d", lambda: os.rename(base + "/other", d + "/moved")),
        ("write d/g", lambda: write(g, os.O_WRONLY, offset=0)),
        ("move within d", lambda: os.rename(g, d + "/h")),
        ("chmod d", lambda: os.chmod(d, 0o700)),
        ("setxattr d", lambda: os.setxattr(d, "user.x", b"y")),
        ("unlink in d", lambda: os.unlink(g if os.path.exists(g) else d + "/h")),
        ("move out of d", lambda: os.rename(d + "/moved", base + "/other")),
        ("rename d", lambda: os.rename(d, base + "/e")),
        ("rename f", lambda: os.rename(f, base + "/f2")),
        ("rename over f", lambda: os.rename(base + "/s", f)),
        ("rmdir empty", lambda: os.rmdir(base + "/empty")),
        ("unlink f", lambda: os.unlink(f)),
    ]


def forbidden():
    for flag in 0, IMMUTABLE, APPEND:
        base = "with-%s" % NAMES.get(flag, "nothing")
        fresh(base)
        os.setxattr(base + "/f", "user.old", b"")
        for name in "f", "d", "empty":
            print(base, name, change(base + "/" + name, on=flag), "%x" % (get(base + "/" + name) & SHOWN))
        for what, call in attempts(base):
            tried(base + " " + what, call)
        for name in sorted(os.listdir(base)):
            status = os.lstat(base + "/" + name)
            print(base, name, stat.filemode(status.st_mode), status.st_nlink, status.st_uid)
        if os.path.exists(base + "/f") and not os.path.islink(base + "/f"):
            print(base, "content", digest(base + "/f"), os.listxattr(base + "/f"))
        for path in [base] + [base + "/" + name for name in os.listdir(base)]:
            if not os.path.islink(path):
                change(path, off=IMMUTABLE | APPEND)
        for folder, folders, files in os.walk(base, topdown=False):
            for name in files:
                os.unlink(folder + "/" + name)
            for name in folders:
                path = folder + "/" + name
                os.unlink(path) if os.path.islink(path) else os.rmdir(path)
        os.rmdir(base)


def open_before():
    """Descriptors that were there before the flag."""
    with open("o", "wb") as file:
        file.write(b"0123456789")
    fd = os.open("o", os.O_RDWR)
    change("o", on=IMMUTABLE)
    tried("write to what became immutable", lambda: os.pwrite(fd, b"x", 0))
    tried("truncate what became immutable", lambda: os.ftruncate(fd, 1))
    tried("fchmod what became immutable", lambda: os.fchmod(fd, 0o600))
    tried("fallocate what became immutable", lambda: os.posix_fallocate(fd, 0, 100))
    change("o", off=IMMUTABLE)
    tried("write again", lambda: os.pwrite(fd, b"x", 0))
    change("o", on=APPEND)
    appender = os.open("o", os.O_WRONLY | os.O_APPEND)
    tried("append", lambda: os.write(appender, b"end"))
    tried("allocate", lambda: os.posix_fallocate(appender, 0, 100))
    tried("truncate", lambda: os.ftruncate(appender, 1))
    print(digest("o"))
    change("o", off=APPEND)
    os.close(fd)
    os.close(appender)
    os.unlink("o")


def privileges_of_a_log():
    """A setuid log: writing takes the bit away although its mode may not change."""
    with open("log", "wb") as file:
        file.write(b"line\n")
    os.chmod("log", 0o6777)
    print("log", change("log", on=APPEND))
    as_user(lambda: write("log", os.O_WRONLY | os.O_APPEND))
    print("%o" % os.stat("log").st_mode, os.stat("log").st_size)
    change("log", off=APPEND)
    os.unlink("log")


def as_user(call, uid=1000):
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            result = call()
            print("user", "ok" if result is None else result, flush=True)
        except OSError as error:
            print("user", name_of(error), flush=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def who():
    for path in "mine", "theirs":
        open(path, "w").close()
        os.chmod(path, 0o666)
    os.chown("mine", 1000, 1000)
    for path in "mine", "theirs":
        for flag in NOATIME, SYNC, IMMUTABLE, APPEND:
            print(path, NAMES[flag], end=" ", flush=True)
            as_user(lambda: change(path, on=flag))
            print("%x" % (get(path) & SHOWN))
    change("mine", off=NOATIME | SYNC, on=IMMUTABLE)
    print("end of immutable", end=" ", flush=True)
    as_user(lambda: change("mine", off=IMMUTABLE))
    change("mine", off=IMMUTABLE)
    for path in "mine", "theirs":
        os.unlink(path)


def every_flag():
    for kind in "file", "folder":
        os.mkdir("k") if kind == "folder" else open("k", "w").close()
        # Journaling needs a capability on ext4 that containers do not have.
        for flag in SYNC, IMMUTABLE, APPEND, NOATIME:
            print(kind, NAMES[flag], change("k", on=flag), "%x" % (get("k") & SHOWN), change("k", off=flag), "%x" % (get("k") & SHOWN))
        print(kind, "unknown", put("k", get("k") | 0x800000 | 0x40000000))
        before = os.stat("k").st_ctime_ns
        change("k", on=NOATIME)
        print(kind, "ctime", os.stat("k").st_ctime_ns > before)
        fd = os.open("k", os.O_RDONLY)
        extended = bytearray(fcntl.ioctl(fd, FSGETXATTR, bytes(28)))
        print(kind, "extended", "%x" % (struct.unpack_from("I", extended)[0] & 0x78))
        struct.pack_into("I", extended, 0, 0x20)
        tried(kind + " set extended", lambda: fcntl.ioctl(fd, FSSETXATTR, bytes(extended)) and None)
        print("%x" % (get("k") & SHOWN))
        struct.pack_into("I", extended, 12, 5)
        tried(kind + " project", lambda: fcntl.ioctl(fd, FSSETXATTR, bytes(extended)) and None)
        os.close(fd)
        os.rmdir("k") if kind == "folder" else os.unlink("k")
    os.mkfifo("p")
    try:
        print("fifo %x" % get("p"))
    except OSError as error:
        print("fifo", name_of(error))
    os.unlink("p")


def access_times():
    for flag in 0, NOATIME:
        with open("t", "wb") as file:
            file.write(b"x" * 10000)
            os.fsync(file.fileno())
        print("times", change("t", on=flag))
        os.utime("t", (1000, 2000))
        fd = os.open("t", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.read(fd, 10)
        print("read with", NAMES.get(flag, "nothing"), os.fstat(fd).st_atime == 1000)
        os.close(fd)
        os.unlink("t")


def journaled():
    """Content survives every change of the way it goes."""
    with open("j", "wb") as file:
        file.write(hashlib.sha256(b"1").digest() * 5000)
    before = digest("j")
    for step in range(6):
        fd = os.open("j", os.O_RDWR)
        os.pwrite(fd, b"\x01\x16\x19\x70" + b"like a block of the filesystem's own", 4096 * step)
        os.pwrite(fd, b"unaligned" * 700, 50000 + 13 * step)
        change("j", on=JOURNAL if step % 2 == 0 else 0, off=JOURNAL if step % 2 else 0)
        os.pwrite(fd, b"step %d" % step, 4096 * step + 100)
        if step % 3 == 0:
            os.fsync(fd)
        os.close(fd)
        print(digest("j"))
    os.truncate("j", 20000)
    print(digest("j"), os.stat("j").st_size)
    os.unlink("j")


sys.stdout.reconfigure(line_buffering=True)
for part in every_flag, forbidden, open_before, privileges_of_a_log, who, access_times, journaled:
    print("#", part.__name__)
    part()
