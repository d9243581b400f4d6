"""A fresh environment that borrows the installed packages, so that nothing is downloaded."""

import subprocess
import sys
from pathlib import Path


class FreshEnvironment:
    """A virtual environment of its own, with this one's packages below its own.

    They are found by their folders alone: what is installed here in editable mode is not, so that
    the environment's own copy is what is imported.
    """

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.bin = folder / "bin"
        self._site = next(folder.glob("lib/python*/site-packages"))
        borrowed = [path for path in sys.path if Path(path).name == "site-packages"]
        (self._site / "borrowed.pth").write_text("\n".join(borrowed) + "\n")

    def install(self, project: Path) -> None:
        """Install a project's folder or wheel, and nothing that it depends on."""
        options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
        pip = (sys.executable, "-m", "pip", "--python", str(self.bin / "python"))
        subprocess.run([*pip, "install", *options, str(project)], check=True)

    def run(self, *command: str, folder: Path) -> str:
        """Run a program of the environment in a folder; return what it printed."""
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
