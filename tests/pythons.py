"""Installs a wheel in an empty environment of every Python here, and looks whether it works.

    python tests/pythons.py dist

Pythons from 3.10 are taken from PATH and from pyenv's and uv's folders; those that are not on this
machine are left out, and named.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
FOLDERS = (".pyenv/versions/{}.*/bin", ".local/share/uv/python/cpython-{}.*/bin")
CHECK = "import wordsight, wordsight.api; print(len(wordsight.load_model('starter').name))"


def find(version: str) -> str | None:
    """Return a Python of this version, or None."""
    name = f"python{version}"
    places = [p for f in FOLDERS for p in sorted(Path.home().glob(f.format(version)))]
    candidates = [shutil.which(name), *(str(place / name) for place in places)]
    for candidate in candidates:
        if candidate and Path(candidate).exists() and _makes_environments(candidate):
            return candidate
    return None


def _makes_environments(python: str) -> bool:
    command = [python, "-c", "import ensurepip, venv"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def check(python: str, wheel: Path) -> str:
    """Install the wheel and use it; returns what ``wordsight --version`` prints."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        own = f"{folder}/bin/python"
        pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, str(wheel)], check=True)
        subprocess.run([own, "-c", CHECK], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        done = subprocess.run(
            [f"{folder}/bin/wordsight", "--version"], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()


def main() -> None:
    """Check every version, and end with 1 if one failed."""
    wheel = max(Path(sys.argv[1]).glob("wordsight-*.whl"), key=lambda path: path.stat().st_mtime)
    failed = False
    for version in VERSIONS:
        python = find(version)
        if python is None:
            print(f"{version}  not here", flush=True)
            continue
        try:
            print(f"{version}  {check(python, wheel)}", flush=True)
        except subprocess.CalledProcessError as error:
            print(f"{version}  failed: {error}", flush=True)
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
