"""Creates .venv and installs a hash-locked file of requirements. Run by a Python outside of it."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

VENV = Path(".venv")
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.txt"
LOCK_FILE = Path(".local") / "venv.lock"


def works() -> bool:
    """Whether the environment is whole: creating it may have been interrupted, or its Python be gone."""
    try:
        done = subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def install(lock: Path) -> None:
    if not works():
        print(f"Creating .venv with Python {sys.version.split()[0]}", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    print(f"Installing {lock} into .venv (once, about a minute)", flush=True)
    options = ["-qq", "--no-input", "--disable-pip-version-check", "--require-hashes"]
    subprocess.run([PYTHON, "-m", "pip", "install", *options, "-r", lock], check=True)
    shutil.copyfile(lock, STAMP)  # last: an interrupted installation is done again


def main(lock: Path) -> None:
    LOCK_FILE.parent.mkdir(exist_ok=True)
    with LOCK_FILE.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # `make run` and `make test` may be started together
        if not (STAMP.exists() and STAMP.read_bytes() == lock.read_bytes() and works()):
            install(lock)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"make: {' '.join(map(str, error.cmd))} failed, see above")
    except KeyboardInterrupt:
        sys.exit("make: interrupted; the next run goes on from here")
