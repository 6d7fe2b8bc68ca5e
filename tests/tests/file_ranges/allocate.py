"""Calls fallocate(2) in the current folder and prints what comes of it, the same on every sound filesystem."""
import ctypes
import errno
import hashlib
import mmap
import os
import resource
import signal
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
KEEP, PUNCH, ZERO = 1, 2, 16
NAMES = {0: "allocate", KEEP: "keep", PUNCH | KEEP: "punch", ZERO: "zero", ZERO | KEEP: "zero-keep"}
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


def call(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) == 0:
        return "ok"
    return errno.errorcode[ctypes.get_errno()]


def pattern(seed, length):
    return b"".join(hashlib.sha256(b"%d %d" % (seed, at)).digest() for at in range(0, length, 32))[:length]


def summary(path):
    status = os.stat(path)
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()[:16]
    return "%d %s %o" % (status.st_size, digest, stat.S_IMODE(status.st_mode))


def show(what, path, result):
    print(what, result, summary(path))


def files():
    """Every mode at many places of files of many sizes."""
    places = [(0, 1), (0, 100), (50, 5000), (4096, 4096), (4095, 2), (100, 300000), (8192, 20000), (MIB, 1), (70000, 3 * MIB)]
    for size in 0, 1, 100, 3000, 5000, 70000, 2 * MIB + 17:
        for mode in NAMES:
            for number, (offset, length) in enumerate(places):
                with open("f", "wb") as file:
                    file.write(pattern(size, size))
                fd = os.open("f", os.O_RDWR)
                if number % 2:
                    os.fsync(fd)
                os.utime("f", ns=(10**18, 10**18))
                before = os.stat("f").st_blocks
                result = call(fd, mode, offset, length)
                after = os.fstat(fd)
                what = "%d %s %d+%d" % (size, NAMES[mode], offset, length)
                show(what, "f", result)
                print(what, "times", after.st_mtime_ns > 10**18, after.st_ctime_ns > 10**18)
                if mode in (0, KEEP) and length > 100000 and os.stat("f").st_blocks * 512 < length:
                    print(what, "has", after.st_blocks, "blocks")
                # Writing to what was allocated, in part, shows nothing old.
                os.pwrite(fd, b"new", offset + length // 2)
                show(what + " written", "f", "")
                os.close(fd)
                os.unlink("f")


def punched_space():
    fd = os.open("space", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, pattern(1, 8 * MIB), 0)
    os.fsync(fd)
    full = os.fstat(fd).st_blocks
    print("punch", call(fd, PUNCH | KEEP, MIB, 4 * MIB))
    os.fsync(fd)
    print("gives back", (full - os.fstat(fd).st_blocks) * 512 // MIB, "MiB")
    print("hole", os.lseek(fd, 0, os.SEEK_HOLE), os.lseek(fd, 2 * MIB, os.SEEK_DATA))
    print("all", call(fd, PUNCH | KEEP, 0, TIB), os.lseek(fd, 0, os.SEEK_HOLE))
    os.fsync(fd)
    print("gives back", (full - os.fstat(fd).st_blocks) * 512 // MIB, "MiB")
    print("again", call(fd, 0, 0, 8 * MIB))
    os.fsync(fd)
    print("takes", os.fstat(fd).st_blocks * 512 // MIB, "MiB")
    # A huge sparse file.
    os.ftruncate(fd, 3 * TIB)
    os.pwrite(fd, b"x" * 10000, 2 * TIB)
    print("huge", call(fd, PUNCH | KEEP, MIB, TIB), call(fd, PUNCH | KEEP, 2 * TIB + 5000, 100 * GIB))
    print(os.pread(fd, 10000, 2 * TIB) == b"x" * 5000 + bytes(5000))
    print(os.fstat(fd).st_size)
    os.close(fd)
    os.unlink("space")


def refused():
    with open("f", "wb") as file:
        file.write(b"content")
    fd, reader = os.open("f", os.O_RDWR), os.open("f", os.O_RDONLY)
    os.mkdir("d")
    os.mkfifo("p")
    folder, pipe = os.open("d", os.O_RDONLY), os.open("p", os.O_RDWR)
    for mode in NAMES:
        name = NAMES[mode]
        print(name, "read only", call(reader, mode, 0, 10))
        print(name, "directory", call(folder, mode, 0, 10))
        print(name, "pipe", call(pipe, mode, 0, 10))
        print(name, "empty", call(fd, mode, 0, 0), call(fd, mode, -1, 10), call(fd, mode, 10, -1))
        print(name, "overflow", call(fd, mode, (1 << 63) - 10, 100))
    print("punch and change the size", call(fd, PUNCH, 0, 10))
    print("nonsense", call(fd, 0x4000, 0, 10), call(fd, PUNCH | ZERO | KEEP, 0, 10))
    # How far it comes before it finds that out is its own business.
    large = os.open("large", os.O_RDWR | os.O_CREAT)
    print("more than there is", call(large, 0, 0, TIB), call(large, KEEP, 0, TIB))
    os.close(large)
    os.unlink("large")
    show("afterwards", "f", "")
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    print("limit", call(fd, 0, 0, 2 * MIB), call(fd, KEEP, 0, 2 * MIB), call(fd, 0, 0, MIB))
    show("limit", "f", "")
    for each in fd, reader, folder, pipe:
        os.close(each)
    os.unlink("f")
    os.rmdir("d")
    os.unlink("p")


def append():
    fd = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"one")
    print("append", call(fd, KEEP, 0, MIB), call(fd, 0, 0, 10))
    os.write(fd, b"two")
    show("append", "log", "")
    os.close(fd)
    os.unlink("log")


def mapped():
    """What is mapped sees the hole, and what was written through the mapping goes with it."""
    with open("m", "wb") as file:
        file.write(pattern(3, 64 * KIB))
    fd = os.open("m", os.O_RDWR)
    view = mmap.mmap(fd, 64 * KIB)
    view[20000:20010] = b"0123456789"
    view[50000:50010] = b"9876543210"
    first = view[0:64 * KIB]
    print("punch", call(fd, PUNCH | KEEP, 10000, 20000))
    print("mapped", view[0:10000] == first[0:10000], view[10000:30000] == bytes(20000), view[30000:] == first[30000:])
    view[15000:15003] = b"new"
    print("zero", call(fd, ZERO, 40000, 1000), view[40000:41000] == bytes(1000))
    view.flush()
    show("mapped", "m", "")
    view.close()
    os.close(fd)
    os.unlink("m")


def privileges():
    """As an ordinary user."""
    for mode in NAMES:
        with open("s", "wb") as file:
            file.write(pattern(4, 20000))
        os.chmod("s", 0o6777)
        os.chown("s", 0, 0)
        os.chmod("s", 0o6777)
        child = os.fork()
        if child == 0:
            os.setgid(1000)
            os.setuid(1000)
            fd = os.open("s", os.O_RDWR)
            print(NAMES[mode], call(fd, mode, 0, 30000), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        show("privileges " + NAMES[mode], "s", "")
        os.unlink("s")


sys.stdout.reconfigure(line_buffering=True)
for part in files, punched_space, refused, append, mapped, privileges:
    print("#", part.__name__)
    part()
