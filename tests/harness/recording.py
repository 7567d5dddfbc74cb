"""One recording by the program under test, with all that can be known about it afterwards."""
import json
import os
import signal
import subprocess
from pathlib import Path

from . import workloads
from .pprof import Profile


class Recording:
    """A finished recording: .status, .stdout, .stderr, .file, .summary (JSON), .profile, .truth."""

    def __init__(self, done, file, summary_file):
        self.status, self.stdout, self.stderr, self.file = done.returncode, done.stdout, done.stderr, file
        self._summary_file = summary_file
        self._profile = None

    @property
    def profile(self):
        """The profile as the independent parser sees it."""
        if self._profile is None:
            assert os.path.exists(self.file), f"no profile; status {self.status}; stderr: {self.stderr!r}"
            self._profile = Profile(self.file)
        return self._profile

    @property
    def summary(self):
        """The JSON summary."""
        return json.loads(Path(self._summary_file).read_text(encoding="utf-8"))

    @property
    def truth(self):
        """What a workload said about itself."""
        return workloads.truth_of(self.stdout)

    @property
    def cpu_ratio(self):
        """CPU time in the profile over CPU time by getrusage, children included."""
        return self.profile.total("cpu") / (self.truth["cpu_ns"] + self.truth["children_ns"])


    def sum_tolerance(self, least):
        """How far cpu_ratio may be from 1: `least` where the target had its CPUs for itself.

        Where it shared them, whether the clock's tick finds it or another program is chance: of n samples due with
        share p of the CPUs, the standard deviation is sqrt((1 - p) / n). Five of them are allowed then.
        """
        threads = len({s.labels.get("thread_id") for s in self.profile.samples})
        cpus = min(max(threads, 1), os.cpu_count())
        used_ns = self.truth["cpu_ns"] + self.truth["children_ns"]
        share = min(1, used_ns / max(1, self.profile.proto.duration_nanos * cpus))
        due = max(1, used_ns / self.profile.proto.period)
        return least if share > 0.9 else max(least, 5 * ((1 - share) / due) ** 0.5)


class ShareMiss(AssertionError):
    """A share of the samples is farther from the truth than allowed; by chance, once in a while."""


def record(program, folder, command, hz=499, flags=(), timeout=120, name="cpu", **options):
    """Records a command. folder: where the profile goes. hz: None leaves it to the program under test.
    Returns a Recording; its status is 0."""
    file, summary = Path(folder) / f"{name}.pprof", Path(folder) / f"{name}.json"
    frequency = ["-F", hz] if hz else []
    done = program("record", "-o", file, *frequency, f"--json={summary}", *flags, "--", *command,
                   timeout=timeout, **options)
    assert done.returncode == 0, f"status {done.returncode}: {(done.stderr or b'')[-3000:]!r}"
    return Recording(done, file, summary)


def attach(program, folder, pid, seconds, hz=499, flags=(), name="attach"):
    """Records a running process for some seconds. Returns a Recording."""
    file, summary = Path(folder) / f"{name}.pprof", Path(folder) / f"{name}.json"
    done = program("record", "-o", file, "-F", hz, f"--json={summary}", *flags, "-d", seconds, "-p", pid,
                   timeout=seconds + 60)
    assert done.returncode == 0, f"status {done.returncode}: {(done.stderr or b'')[-3000:]!r}"
    return Recording(done, file, summary)


def start_attached(program, file, pid, *flags, seconds=60):
    """Starts attaching and waits until samples can be taken. Returns the running recorder."""
    return program.start("record", "-o", file, *flags, "-d", seconds, "-p", pid)


def finish(process, signal_number=signal.SIGINT, timeout=30):
    """Ends a running recorder. Returns (status, stderr)."""
    if process.poll() is None:
        process.send_signal(signal_number)
    try:
        _, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, errors
