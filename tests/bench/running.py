"""Running commands for the benchmarks: when they started and ended, their CPU and memory, ours and the target's apart.

No wrapper stands between a recorder and its target: perf loses stacks of a program that is reached by a
second exec. The target is found among the recorder's children, and its end is told by its pidfd. What a launched
target used is what the recorder's children used, by wait4(2) and /proc/PID/stat.
"""
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from harness import processes

TICK = os.sysconf("SC_CLK_TCK")
RSS_EVERY_S = 0.02


class Failed(Exception):
    """A command did not do what it was started for."""


def own_cpu_seconds(pid):
    """CPU of a process without its children; it may be dead but not reaped. In ns where it has one thread."""
    coarse = processes.cpu_seconds(pid)
    fine = int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    return coarse if coarse > fine + 3 / TICK else fine


def cpu_seconds_so_far(pid):
    """CPU of a running process without its children: its threads' in ns, with ended ones in ticks."""
    fine = 0.0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            fine += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    except OSError:  # it has just ended
        pass
    coarse = processes.cpu_seconds(pid)
    return coarse if coarse > fine + 3 / TICK else fine


def children_of(pid):
    """Pids of the children of all threads of a process."""
    out = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            out += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii").split())
    except OSError:
        pass
    return out


def runs_program(pid, program):
    """Whether a process has become this program. Its words may differ: some programs write into their own."""
    try:
        return os.readlink(f"/proc/{pid}/exe") == os.path.realpath(program)
    except OSError:
        return False


class Running:
    """A started command; finish() waits. .started, .ended: monotonic s; .cpu_s: itself only; .rss_mb: its peak;
    .children_cpu_s: all that it waited for, with their children; .status."""

    def __init__(self, command, stdout=None, environment=None, stdin=None):
        self.command = [str(word) for word in command]
        self.rss_mb = self.cpu_s = self.children_cpu_s = 0.0
        self.ended = self.status = None
        self._errors = tempfile.TemporaryFile()
        self.started = time.monotonic()
        self._process = subprocess.Popen(self.command, stdin=stdin or subprocess.DEVNULL, env=environment,
                                         stdout=stdout or subprocess.DEVNULL, stderr=self._errors,
                                         start_new_session=True)
        self.pid = self._process.pid
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self):
        while True:
            field = processes.status_field(self.pid, "VmHWM")
            if field is None:
                return
            self.rss_mb = max(self.rss_mb, int(field.split()[0]) / 1024)
            time.sleep(RSS_EVERY_S)

    def has_ended(self):
        """Whether it is dead, reaped or not."""
        return self.status is not None or processes.state(self.pid) in (None, "Z", "X")

    def find(self, command, limit_s=30):
        """Waits until a child has become the program of `command`. Returns its pid and when that was."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            for pid in children_of(self.pid):
                if runs_program(pid, command[0]):
                    return pid, time.monotonic()
            if self.has_ended():
                break
            time.sleep(0.001)
        raise Failed(f"{self.command[0]} did not start {command[0]}: {self.errors()}")

    def errors(self):
        """The end of its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-1500:].strip()

    def signal(self, number):
        """Sends a signal to it alone."""
        os.kill(self.pid, number)

    def finish(self, limit_s=600, statuses=(0,)):
        """Waits for its end and takes the measures. Returns itself. Fails when it ends otherwise."""
        late = threading.Timer(limit_s, lambda: os.killpg(self.pid, signal.SIGKILL))
        late.start()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.ended = time.monotonic()
        late.cancel()
        self.cpu_s = own_cpu_seconds(self.pid)
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = self.status = os.waitstatus_to_exitcode(status)
        self.children_cpu_s = usage.ru_utime + usage.ru_stime - self.cpu_s
        self._watcher.join()
        if self.status not in statuses:
            raise Failed(f"{' '.join(self.command)} ended with {self.status}: {self.errors()}")
        return self

    def stop(self):
        """Makes sure that it is gone."""
        if self.status is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.finish(statuses=range(-64, 256))


def run(command, stdout=None, limit_s=600, environment=None):
    """Runs a command to its good end. Returns the finished Running; leaves no process behind."""
    running = Running(command, stdout, environment)
    try:
        return running.finish(limit_s)
    finally:
        running.stop()


def wait_for_end(pid, limit_s=600):
    """Waits until a process that is not our child has ended. Returns when that was."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:  # it was gone before we came to look
        return time.monotonic()
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(limit_s * 1000):
            raise Failed(f"process {pid} did not end in {limit_s} s")
        return time.monotonic()
    finally:
        os.close(descriptor)
