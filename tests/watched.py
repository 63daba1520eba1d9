"""Programs run under strace, children included: what they look up, connect to, and write."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

_CALLS = (
    "%network,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,"
    "link,linkat,symlink,symlinkat"
)
_STRACE = ("strace", "-f", "-qq", "-s", "4096", "-e", f"trace={_CALLS}")
_ADDRESS = re.compile(
    r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)"'
)
_LOCAL = re.compile(r"(::ffff:)?127\.|0\.0\.0\.0$|::1?$")  # and those that mean "any"
_NAMES = re.compile(r'"((?:[^"\\]|\\.)*)"')
_MAKES = re.compile(r"\b(creat|mkdir|mkdirat|rename\w*|link|linkat|symlink|symlinkat)\(")
# Devices and the like; what Python writes where an installed package has no .pyc yet.
_HARMLESS = ("/dev/", "/proc/", "/sys/", "/memfd:")


class Watched:
    """A program under strace with an empty home, in a folder of its own.

    Its cache is ``home/cache``; everything that it may write lies in ``folder``, ``cache`` or
    the system's folder for temporary files, which is ``folder/tmp``.
    """

    def __init__(
        self, folder: Path, program: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        if sys.platform != "linux" or not shutil.which("strace"):
            pytest.skip("strace is not installed: what programs send is not watched")
        self.folder = folder
        self.home, self.trace = folder / "home", folder / "trace"
        self.cache, temporary = folder / "cache", folder / "tmp"
        for made in (self.home, temporary):
            made.mkdir(parents=True, exist_ok=True)
        kept = ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH")
        self._process = subprocess.Popen(
            [*_STRACE, "-o", str(self.trace), sys.executable, "-B", *program],
            cwd=folder,
            env={name: os.environ[name] for name in kept if name in os.environ}
            | {"HOME": str(self.home), "WORDSIGHT_CACHE": str(self.cache)}
            | {"TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
            | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def stop(self, signal: int) -> None:
        """Send a signal to the program and all that it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal)

    def wait(self, seconds: float = 600) -> tuple[int, str]:
        """The exit status and all that was printed; a program that goes on is killed."""
        try:
            output, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.stop(9)
            output, _ = self._process.communicate()
        return self._process.returncode, output

    def sent(self) -> list[str]:
        """Every system call that looks up a name or reaches another machine."""
        found = []
        for line in self.trace.read_text(errors="replace").splitlines():
            address = _ADDRESS.search(line)
            away = address and (address[1] == "53" or not _LOCAL.match(address[2]))
            if away or "/etc/resolv.conf" in line or ("/nscd/" in line and "hosts" in line):
                found.append(line)
        return found

    def written(self) -> list[str]:
        """Every file and folder that was made or opened for writing outside ``folder``; also in
        ``home``, which is to stay empty.
        """
        found = []
        for line in self.trace.read_text(errors="replace").splitlines():
            opened = re.search(r"\bopen(at)?\(", line) and re.search(
                "O_WRONLY|O_RDWR|O_CREAT", line
            )
            if not (opened or _MAKES.search(line)):
                continue
            if re.search(r"= -1 E(EXIST|ISDIR)", line):
                continue  # nothing came of it
            names = _NAMES.findall(line)
            path = os.path.join(self.folder, names[-1] if names else "")  # noqa: PTH118
            inside = path.startswith(f"{self.folder}/") and not path.startswith(f"{self.home}/")
            if not inside and not path.startswith(_HARMLESS):
                found.append(line)
        return found

    def assert_private(self) -> None:
        """Nothing was sent, no name looked up, nothing written where it does not belong."""
        assert self.trace.stat().st_size
        assert self.sent() == []
        assert self.written() == []
        assert list(self.home.rglob("*")) == []
