"""Calls copy_file_range(2) in the current folder and prints what comes of it, the same on every sound filesystem."""
import errno
import hashlib
import os
import random
import stat
import sys

MIB, GIB = 1 << 20, 1 << 30


def pattern(seed, length):
    return b"".join(hashlib.sha256(b"%d %d" % (seed, at)).digest() for at in range(0, length, 32))[:length]


def copy(source, target, length, source_offset, target_offset):
    """All of it, in as many calls as it takes."""
    done = 0
    while done < length:
        try:
            step = os.copy_file_range(source, target, length - done, source_offset + done, target_offset + done)
        except OSError as error:
            return "%s after %d" % (errno.errorcode[error.errno], done)
        if step == 0:
            break
        done += step
    return done


def summary(path):
    status = os.stat(path)
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()[:16]
    return "%d %s %o" % (status.st_size, digest, stat.S_IMODE(status.st_mode))


def make(name, *pieces):
    """A file of (offset, length) pieces; the last one may be a size."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    for offset, length in pieces:
        os.pwrite(fd, pattern(offset + length, length), offset)
    return fd


def shapes():
    sources = [[], [(0, 10)], [(0, 3000)], [(0, 100000)], [(0, 100), (50000, 100)], [(30000, 5000), (1 * MIB, 300000)],
               [(0, 3 * MIB)]]
    targets = [[], [(0, 100)], [(0, 200000)], [(500000, 1)], [(0, 4 * MIB)]]
    places = [(0, 0, GIB), (0, 5000, 60000), (4096, 4096, 8192), (17, 40000, 30000), (29999, 3, 1), (10, 0, 100), (0, MIB, 2 * MIB)]
    for source in sources:
        for target in targets:
            for source_offset, target_offset, length in places:
                first, second = make("source", *source), make("target", *target)
                os.utime("target", ns=(10**18, 10**18))
                result = copy(first, second, length, source_offset, target_offset)
                print(source, target, source_offset, target_offset, length, result, summary("target"), summary("source"),
                      os.fstat(second).st_mtime_ns > 10**18)
                os.close(first)
                os.close(second)


def one_file():
    fd = make("one", (0, 50000), (200000, 50000))
    for source, target, length in [(0, 100000, 50000), (0, 10, 100), (10, 0, 100), (0, 100, 100), (0, 0, 10), (100, 0, 100),
                                   (240000, 250000, 20000), (0, 249999, 10), (200000, 1000, 3000)]:
        print("one", source, target, length, copy(fd, fd, length, source, target), summary("one"))
    os.close(fd)


def sparse():
    """A hole replaces what was there."""
    first = make("holes", (0, 10000), (30 * MIB, 10000))
    second = make("other", (0, 20 * MIB))
    os.fsync(second)
    print("sparse", copy(first, second, GIB, 0, 0), summary("holes"), summary("other"))
    os.close(first)
    os.close(second)
    os.unlink("holes")
    os.unlink("other")


def refused():
    first, reader = make("first", (0, 10000)), os.open("first", os.O_RDONLY)
    os.mkdir("d")
    folder = os.open("d", os.O_RDONLY)
    writer, appender = os.open("second", os.O_WRONLY | os.O_CREAT), os.open("second", os.O_WRONLY | os.O_APPEND)
    for what, source, target in [("write only", writer, first), ("read only", first, reader), ("append", first, appender),
                                 ("directory", folder, first), ("to a directory", first, folder)]:
        print(what, copy(source, target, 10, 0, 0))
    print("nothing", copy(first, writer, 0, 0, 0), copy(first, writer, 10, 20000, 0))
    print(summary("first"), summary("second"))
    for each in first, reader, folder, writer, appender:
        os.close(each)
    os.rmdir("d")


def privileges():
    source = make("s", (0, 20000))
    fd = make("t", (0, 5000))
    os.fchmod(fd, 0o6777)
    child = os.fork()
    if child == 0:
        os.setgid(1000)
        os.setuid(1000)
        mine = os.open("t", os.O_RDWR)
        print("privileges", copy(source, mine, 10000, 0, 2000), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(summary("t"))
    os.close(fd)
    os.close(source)


def many():
    """Random copies, against a model."""
    chance = random.Random(7)
    names = ["m0", "m1", "m2"]
    fds = [make(name) for name in names]
    contents = [bytearray() for _ in names]
    for step in range(300):
        source, target = chance.randrange(3), chance.randrange(3)
        offset, length = chance.randrange(300000), chance.choice([10, 4096, 30000, 200000])
        if step % 3 == 0:
            data = pattern(step, length)
            os.pwrite(fds[target], data, offset)
            model = contents[target]
            model.extend(bytes(max(0, offset - len(model))))
            model[offset:offset + length] = data
            continue
        to = chance.randrange(300000)
        data = bytes(contents[source][offset:offset + length])
        overlap = source == target and abs(offset - to) < len(data)
        result = copy(fds[source], fds[target], length, offset, to)
        if overlap:
            assert result == "EINVAL after 0", result
            continue
        assert result == len(data), (result, len(data))
        if data:
            model = contents[target]
            model.extend(bytes(max(0, to - len(model))))
            model[to:to + len(data)] = data
        found = os.pread(fds[target], 10 * MIB, 0)
        assert found == bytes(contents[target]), "step %d" % step
    for name in names:
        print(summary(name))


sys.stdout.reconfigure(line_buffering=True)
for part in shapes, one_file, sparse, refused, privileges, many:
    print("#", part.__name__)
    part()
for name in os.listdir("."):
    os.unlink(name)
