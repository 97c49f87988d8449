"""Runs diffpref. One Ctrl-C stops all processes, once, so that they can checkpoint."""

import os
import subprocess
import threading


class Stopped(Exception):
    """A signal arrived; finished work is kept."""


class Failed(Exception):
    """A program ended with an error, named in the text."""


class Programs:
    """The running programs. Each has its own process group: a terminal's Ctrl-C reaches only this tool, which
    forwards it once (a second one would make diffpref quit without a checkpoint)."""

    def __init__(self):
        self._running = set()
        self._lock = threading.RLock()  # the signal handler may interrupt its holder
        self.signal = 0  # the first signal

    @property
    def stopping(self):
        return self.signal != 0

    def stop(self, signal):
        with self._lock:
            if self.stopping:
                return
            self.signal = signal
            for process in self._running:
                process.terminate()

    def run(self, command, log):
        """Runs to the end; output is appended to `log`.

        Raises Stopped after a signal, Failed with the last lines of the log.
        """
        # One core per row: without this libtorch and OpenMP take all of them.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NO_COLOR": "1"}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(f"$ {' '.join(command)}\n".encode())
            file.flush()
            start = file.tell()
            process = self._start(command, file, environment)
            code = process.wait()
            with self._lock:
                self._running.discard(process)
        if self.stopping:
            raise Stopped
        if code != 0:
            raise Failed(f"`{' '.join(command[:2])}` ended with {code}: {last_words(log, start)} (full log: {log})")

    def _start(self, command, file, environment):
        with self._lock:
            if self.stopping:
                raise Stopped
            try:
                process = subprocess.Popen(
                    command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
                )
            except OSError as error:
                raise Failed(f"cannot start {command[0]}: {error.strerror}; `make release` builds it") from None
            self._running.add(process)
            return process


def last_words(log, start):
    """Error of a program, from its part of the log."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [index for index, line in enumerate(lines) if line.lower().startswith("error")]
    return " ".join(lines[errors[-1] :] if errors else lines[-3:]) or "it said nothing"
