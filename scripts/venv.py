"""Creates an environment, .venv or another one, and installs a hash-locked file of requirements into it.
Run by a Python outside of it."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

VENV = Path(".venv")
LOCK_FILE = Path(".local") / "venv.lock"


def python_of(venv: Path) -> Path:
    return venv / "bin" / "python"


def works(venv: Path) -> bool:
    """Whether the environment is whole: creating it may have been interrupted, or its Python be gone."""
    try:
        done = subprocess.run([python_of(venv), "-m", "pip", "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def install(lock: Path, venv: Path, stamp: Path) -> None:
    if not works(venv):
        print(f"Creating {venv} with Python {sys.version.split()[0]}", flush=True)
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    print(f"Installing {lock} into {venv} (once, about a minute)", flush=True)
    options = ["-qq", "--no-input", "--disable-pip-version-check", "--require-hashes"]
    subprocess.run([python_of(venv), "-m", "pip", "install", *options, "-r", lock], check=True)
    shutil.copyfile(lock, stamp)  # last: an interrupted installation is done again


def main(lock: Path, venv: Path = VENV) -> None:
    stamp = venv / "installed.txt"
    LOCK_FILE.parent.mkdir(exist_ok=True)
    with LOCK_FILE.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # `make run` and `make test` may be started together
        if not (stamp.exists() and stamp.read_bytes() == lock.read_bytes() and works(venv)):
            install(lock, venv, stamp)


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"make: {' '.join(map(str, error.cmd))} failed, see above")
    except KeyboardInterrupt:
        sys.exit("make: interrupted; the next run goes on from here")
