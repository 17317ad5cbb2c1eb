"""The few Linux calls that Python has no function for, by ctypes. Errors are ``OSError``."""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 0x4000, 1 << 18
MOUNT_RDONLY, MOUNT_NOSUID, MOUNT_NODEV, MOUNT_IDMAP = 0x1, 0x2, 0x4, 0x100000

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE, _OPEN_TREE_CLONE = -100, 0x1000, 0x8000, 1
_MOVE_FROM_FD = 0x4
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_PATH_BENEATH = 1
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def _syscall(number: int, what: str, *args: object) -> int:
    wide = (ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args)
    return _check(_libc.syscall(ctypes.c_long(number), *wide), what)


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), "prctl")


def die_with_parent(signal_number: int) -> None:
    """Ask for a signal when the parent dies. Lost at a change of user: call it after that."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def become_subreaper() -> None:
    """Adopt every orphan below this process."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """From now on no program that is executed gains privileges."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def make_private() -> None:
    """Cut this mount namespace off from its parent's."""
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "mount")


def mount_tmpfs(path: str, options: str, flags: int = MS_NOSUID | MS_NODEV) -> None:
    """Cover ``path`` by a tmpfs."""
    number, words = ctypes.c_ulong(flags), options.encode()
    _check(_libc.mount(b"tmpfs", path.encode(), b"tmpfs", number, words), "mount")


def mount_proc(path: str) -> None:
    """Cover ``path`` by a /proc that shows only processes that the reader may trace."""
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _check(_libc.mount(b"proc", path.encode(), b"proc", flags, b"hidepid=ptraceable"), "mount")


def open_tree(path: str, *, recursive: bool) -> int:
    """A detached copy of the mount at ``path``, as a file descriptor."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return _syscall(_OPEN_TREE, path, _AT_FDCWD, os.fsencode(path), flags)


def set_mount(fd: int, attributes: int, userns: int = 0, *, recursive: bool) -> None:
    """mount_setattr(2) on a detached mount; ``userns`` is the map of an ID-mapped one."""
    attr = struct.pack("=QQQQ", attributes, 0, 0, userns)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _syscall(_MOUNT_SETATTR, "mount_setattr", fd, b"", flags, attr, len(attr))


def attach(fd: int, path: str) -> None:
    """Attach a detached mount at ``path``."""
    _syscall(_MOVE_MOUNT, path, fd, b"", _AT_FDCWD, os.fsencode(path), _MOVE_FROM_FD)


def create_ruleset(files: int, tcp: int, scopes: int) -> int:
    """A Landlock ruleset that denies these rights, as a file descriptor."""
    attr = struct.pack("=QQQ", files, tcp, scopes)
    return _syscall(_CREATE_RULESET, "landlock", attr, len(attr), 0)


def add_path_rule(ruleset: int, folder: int, rights: int) -> None:
    """Allow ``rights`` again for a file, or a folder and all below it."""
    attr = struct.pack("=Qi", rights, folder)
    _syscall(_ADD_RULE, "landlock", ruleset, _PATH_BENEATH, attr, 0)


def restrict_self(ruleset: int) -> None:
    """Be under a Landlock ruleset from now on, with all that comes after."""
    _syscall(_RESTRICT_SELF, "landlock", ruleset, 0)


def filter_calls(program: bytes) -> None:
    """Be under a seccomp filter (``struct sock_filter[]``) from now on."""
    code = ctypes.create_string_buffer(program, len(program))
    listing = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    zero = ctypes.c_ulong(0)
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    _check(_libc.prctl(_PR_SET_SECCOMP, mode, listing, zero, zero), "seccomp")
