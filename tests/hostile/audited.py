"""Plan experiment files and print what none of them must reach: `audited.py FOLDER FILE...`. A script of its own."""

import sys
import sysconfig
from pathlib import Path

import timm
import torch

from dctkd import cli

FOLDERS = {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, *sys.argv[1:2]}
ALLOWED = tuple(str(Path(folder).resolve()) for folder in FOLDERS)
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn")
SEEN: list[str] = []


def hook(event, arguments):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        SEEN.append(f"{event} {arguments[1:]}")
    elif event in PROGRAMS:
        SEEN.append(f"{event} {arguments[:2]}")
    elif event == "exec":
        file = getattr(arguments[0], "co_filename", "")
        if file.startswith("/") and not file.startswith(ALLOWED):
            SEEN.append(f"exec {file}")
    elif event == "open" and "SECRET" in str(arguments[0]):
        SEEN.append(f"open {arguments[0]}")


if __name__ == "__main__":
    assert timm, torch  # their own start finds libraries by running ldconfig
    files = sys.argv[2:]
    sys.addaudithook(hook)
    for file in files:
        sys.argv = ["dctkd", "plan", "--config", file]
        try:
            cli.main()
        except SystemExit as done:
            print(f"RESULT {file} {done.code} {SEEN}")
        SEEN.clear()
