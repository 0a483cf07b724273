"""The restrictions of a systemd unit without systemd: ``sandbox.py UNIT STATE PROGRAM ARGUMENT...``

Of what ``configs/ward-gateway.service`` says, this does what the kernel does for any process: a
mount namespace in which everything but STATE is read-only and nothing but Python can be executed
(``ProtectSystem``, ``NoExecPaths``), no capability, no new privileges, and a seccomp filter of the
same system calls, address families and namespaces. What it leaves out hides things (``PrivateTmp``,
``ProtectHome``, ``ProcSubset``) or bounds them. x86-64, as root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
_PYTHON = {sys.prefix, sys.base_prefix, "/usr/lib", "/lib", "/lib64", "/usr/local/lib"}
"""In place of ExecPaths=, which names where a service is installed."""

_CLONE_NEWNS = 0x20000
_RDONLY, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 8, 32, 4096, 16384, 1 << 18
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 24, 38, 22
_LAST_CAPABILITY = 40
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # struct seccomp_data
_X86_64 = 0xC000003E
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}

_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str | None:
    """What this machine lacks for it, by name."""
    if os.geteuid() != 0:
        return "root"
    if shutil.which("systemd-analyze") is None:
        return "systemd-analyze (Debian: systemd)"
    if not HEADER.exists():
        return f"{HEADER} (Debian: linux-libc-dev, on x86-64)"
    allowed = subprocess.run(
        ["unshare", "-m", "mount", "--make-rprivate", "/"], capture_output=True, check=False
    )
    return None if allowed.returncode == 0 else "a mount namespace of its own"


def directives(unit: Path) -> dict[str, list[str]]:
    """Name -> values, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def _mount(source: str, target: str, flags: int) -> None:
    if _libc.mount(source.encode(), target.encode(), None, flags, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}")


def _protect(unit: dict[str, list[str]], state: str) -> None:
    read_only = unit.get("ProtectSystem") == ["strict"]
    no_exec = "NoExecPaths" in unit
    if _libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _mount("none", "/", _REC | _PRIVATE)
    executable = {os.path.realpath(one) for one in _PYTHON if os.path.exists(one)}
    for one in (*sorted(executable), state):
        _mount(one, one, _BIND)
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in {one for one in mounted if not re.match(r"/(proc|sys|dev)(/|$)", one)}:
        flags = _REMOUNT | _BIND
        flags |= _RDONLY if read_only and place != state else 0
        flags |= _NOEXEC if no_exec and place not in executable else 0
        _mount("none", place, flags)


def _calls(words: str) -> set[str]:
    """System calls that a value of ``SystemCallFilter=`` names, sets opened."""
    found: set[str] = set()
    for word in words.split():
        if not word.startswith("@"):
            found.add(word)
            continue
        told = subprocess.run(
            ["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True
        ).stdout
        members = [line.strip() for line in told.splitlines()[1:]]
        found |= _calls(" ".join(one for one in members if one and not one.startswith("#")))
    return found


def _filter(unit: dict[str, list[str]]) -> bytes:
    """A BPF program."""
    numbers = {
        name: int(number) for name, number in re.findall(r"__NR_(\w+) (\d+)", HEADER.read_text())
    }
    allowed = set(numbers)
    if "SystemCallFilter" in unit:
        allowed = _calls("@default")
        for value in unit["SystemCallFilter"]:
            if value.startswith("~"):
                allowed -= _calls(value[1:])
            else:
                allowed |= _calls(value)
    if unit.get("RestrictNamespaces") == ["yes"]:
        allowed -= {"unshare", "setns"}
    program = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _X86_64)]
    program += [(_RETURN, 0, 0, _REFUSE | errno.EPERM), (_LOAD, 0, 0, _NUMBER)]
    families = [_FAMILIES[one] for one in " ".join(unit.get("RestrictAddressFamilies", [])).split()]
    if families:
        program += [(_EQUAL, 0, 2 * len(families) + 2, numbers["socket"])]
        program += [(_LOAD, 0, 0, _FIRST_ARGUMENT)]
        for family in families:
            program += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
        program += [(_RETURN, 0, 0, _REFUSE | errno.EAFNOSUPPORT)]
    for name in sorted(allowed & set(numbers)):
        program += [(_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ALLOW)]
    program += [(_RETURN, 0, 0, _REFUSE | errno.EPERM)]
    return b"".join(struct.pack("HBBI", *one) for one in program)


def _restrict(unit: dict[str, list[str]], program: bytes) -> None:
    if unit.get("CapabilityBoundingSet") == [""]:
        for capability in range(_LAST_CAPABILITY + 1):
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if unit.get("NoNewPrivileges") == ["yes"]:
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    kept = ctypes.create_string_buffer(program, len(program))
    told = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(kept))
    if _libc.prctl(_PR_SET_SECCOMP, 2, told, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def tries(state: Path, outside: Path) -> dict[str, str]:
    """What a gateway in somebody else's hands would try: the error of each, ``done`` if none."""
    script = state / "tried.sh"

    def run_own() -> None:
        script.write_text("#!/bin/true\n")
        script.chmod(0o700)
        subprocess.run([str(script)], check=False)

    def call(name: str, *arguments: int) -> None:
        if getattr(_libc, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)

    found = {}
    for name, attempt in {
        "write beside the state folder": lambda: outside.write_text("tried"),
        "open /etc for writing": lambda: os.close(os.open("/etc/hostname", os.O_WRONLY)),
        "execute a shell": lambda: subprocess.run(["/bin/sh", "-c", ":"], check=False),
        "execute what was written": run_own,
        "trace another process": lambda: call("ptrace", 16, os.getppid(), 0, 0),
        "choose a processor": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
        "a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "a user namespace": lambda: call("unshare", 0x10000000),
        "become another user": lambda: os.setuid(1),
        "change the root": lambda: os.chroot("/"),
        "be served before others": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
    }.items():
        try:
            attempt()
        except OSError as error:
            found[name] = errno.errorcode.get(error.errno or 0, "?")
        else:
            found[name] = "done"
    return found


if __name__ == "__main__":
    _unit = directives(Path(sys.argv[1]))
    _program = _filter(_unit)
    _protect(_unit, sys.argv[2])
    _restrict(_unit, _program)
    os.execv(sys.argv[3], sys.argv[3:])
