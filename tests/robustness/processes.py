"""Commands as processes that need no new imports: a process that has imported everything forks one for each command.

`python -m tests.robustness.processes` reads one JSON request a line and answers each with one line.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests import ROOT


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or minus the signal; None when it had to be stopped. Its output, both streams together."""

    code: int | None
    output: str


@dataclass
class Moment:
    """A signal that a process sends to itself just before its n-th change of the disk: a file opened for writing, renamed or removed, a folder made or removed.

    Unlike a time, it is the same in every run. With n = 0 no signal is sent, and the number of changes is printed at the end.
    """

    n: int
    signal: int = signal.SIGKILL
    count: int = 0

    def watch(self) -> None:
        """Start to count."""
        sys.addaudithook(self._seen)

    def _seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            self.count += 1
            if self.count == self.n:
                os.kill(os.getpid(), self.signal)


class ForkServer:
    """A process that has imported everything and forks one child per command."""

    def __init__(self) -> None:
        """Start it and wait until its imports are done."""
        env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        arguments = [sys.executable, "-m", "tests.robustness.processes"]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
        self._ask()

    def _ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        if request:
            self.process.stdin.write(json.dumps(request, default=str) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the fork server has died"
        return json.loads(line)

    def start(self, name: str, *arguments: object, **how: Any) -> int:
        """Start a command; its process id. `how`: largest_file and memory in bytes, user id, seconds between checkpoints, and `moment` (see `Moment`)."""
        return int(self._ask(start=[name, *map(str, arguments)], **how))

    def wait(self, pid: int, seconds: float = 600) -> Ended:
        """Wait for a command's end; stop it if that takes too long."""
        return Ended(**self._ask(wait=pid, seconds=seconds))

    def wait_until_stopped(self, pid: int) -> None:
        """Wait until a command has sent itself a SIGSTOP."""
        assert self._ask(stopped=pid), "it has ended"

    def run(self, name: str, *arguments: object, **how: Any) -> Ended:
        """Run a command to its end."""
        return self.wait(self.start(name, *arguments, **how))

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def _child(
    arguments: list[str],
    *,
    largest_file: int | None = None,
    user: int | None = None,
    between: float | None = None,
    memory: int | None = None,
    moment: Sequence[int] | None = None,
) -> int:
    import hierarchy.inference.checkpoint
    from tests.commands import COMMANDS

    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    if between is not None:
        hierarchy.inference.checkpoint.SECONDS_BETWEEN = between
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = arguments
    watched = Moment(*moment) if moment is not None else None
    if watched:
        watched.watch()
    code = 0
    try:
        COMMANDS[arguments[0]]()
    except SystemExit as done:
        code = int(done.code or 0)
    if watched and not watched.n:
        print(f"changes of the disk: {watched.count}")
    return code


def _start(arguments: list[str], how: dict[str, Any], pipes: dict[int, int]) -> int:
    out, into = os.pipe()
    pid = os.fork()
    if pid:
        os.close(into)
        pipes[pid] = out
        return pid
    os.dup2(into, 1)
    os.dup2(into, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # the old ones know what they were opened on
    code = 1
    try:
        code = _child(arguments, **how)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(pid: int, seconds: float, pipe: int) -> dict[str, Any]:
    end, output, stopped = time.monotonic() + seconds, b"", False
    while True:
        if select.select([pipe], [], [], max(0.0, min(0.2, end - time.monotonic())))[0]:
            if not (part := os.read(pipe, 65536)):
                break
            output += part
        elif time.monotonic() > end and not stopped:
            stopped = True
            os.kill(pid, signal.SIGKILL)
    os.close(pipe)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"code": None if stopped else status, "output": output.decode("utf-8", "replace")}


def main() -> None:
    """Serve requests until there are none."""
    import numba  # noqa: F401

    import tests.commands  # noqa: F401

    for package in map(importlib.import_module, ("data_prep", "hierarchy", "crt", "fatescreen")):  # commands import what they need later
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)

    answers = os.fdopen(os.dup(1), "w")
    pipes: dict[int, int] = {}
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            answer: Any = _start(request.pop("start"), request, pipes)
        elif "stopped" in request:
            answer = os.WIFSTOPPED(os.waitpid(request["stopped"], os.WUNTRACED)[1])
        else:
            answer = _wait(request["wait"], request["seconds"], pipes.pop(request["wait"]))
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
