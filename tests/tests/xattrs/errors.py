"""Extended attributes of each kind of file, what is allowed and what is not: one line for each attempt. The same lines
are expected of every filesystem. Run in an empty directory, as root first (`make`), then as anybody (`try`)."""

import errno, os, socket, stat, sys

KINDS = ["file", "dir", "link", "fifo", "device", "socket", "foreign", "sticky"]
NAMES = ["user.a", "trusted.a", "security.a", "system.a", "other.a", "user.", "user", "user." + "n" * 250, "user." + "n" * 251]


def make():
    open("file", "w").close()
    os.mkdir("dir")
    os.symlink("file", "link")
    os.mkfifo("fifo")
    os.mknod("device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    open("foreign", "w").close()
    os.mkdir("sticky")
    for kind in KINDS:
        if kind != "foreign":
            os.chown(kind, 1000, 1000, follow_symlinks=False)
    os.chmod("sticky", 0o1777)
    os.chown("sticky", 0, 0)
    os.setxattr("file", "trusted.hidden", b"t")
    os.setxattr("file", "user.old", b"12345")
    os.setxattr("foreign", "user.old", b"12345")


def attempt(what, action):
    try:
        print(what, action())
    except OSError as error:
        print(what, errno.errorcode[error.errno])


def main():
    for kind in KINDS:
        for name in NAMES:
            short = name if len(name) < 20 else "user.n*%d" % (len(name) - 5)
            flat = {"follow_symlinks": False}
            attempt(f"set {kind} {short}", lambda: os.setxattr(kind, name, b"value", **flat))
            attempt(f"get {kind} {short}", lambda: os.getxattr(kind, name, **flat))
            attempt(f"remove {kind} {short}", lambda: os.removexattr(kind, name, **flat))
            attempt(f"remove again {kind} {short}", lambda: os.removexattr(kind, name, **flat))
        attempt(f"list {kind}", lambda: sorted(os.listxattr(kind, follow_symlinks=False)))
    for flags, what in (os.XATTR_CREATE, "create"), (os.XATTR_REPLACE, "replace"):
        attempt(f"{what} what exists", lambda: os.setxattr("file", "user.old", b"new", flags))
        attempt(f"{what} what does not", lambda: os.setxattr("file", "user." + what, b"new", flags))
    attempt("value", lambda: os.getxattr("file", "user.old"))
    attempt("empty", lambda: os.setxattr("file", "user.old", b""))
    attempt("value", lambda: os.getxattr("file", "user.old"))
    attempt("too long", lambda: os.setxattr("file", "user.old", bytes(65537)))
    attempt("foreign value", lambda: os.getxattr("foreign", "user.old"))


make() if sys.argv[1] == "make" else main()
