"""Heap profiles against programs that know the truth (tests/workloads/heap_*), and a target's code against its files."""
import contextlib
import json
import math
import mmap
import os
import signal
import struct
import subprocess
from pathlib import Path

from . import processes, workloads
from .pprof import Profile

UNIT_BYTES = 2048  # what the sizes of the workloads are multiples of
RATE_BYTES = 8192  # of the tests: small, so that a second gives many samples
MULTIARCH = Path("/usr/lib/x86_64-linux-gnu")
ALLOCATORS = {"glibc": None, "jemalloc": "libjemalloc.so.2", "tcmalloc": "libtcmalloc_minimal.so.4",
              "mimalloc": "libmimalloc.so.2"}
NO_CODE = ("[allocated before attach]", "[untracked]")


def preload(allocator):
    """The environment in which a program runs on this allocator."""
    library = ALLOCATORS[allocator]
    if not library:
        return dict(os.environ)
    assert (MULTIARCH / library).exists(), f"{library} is not installed (.ci/packages check)"
    return {**os.environ, "LD_PRELOAD": str(MULTIARCH / library)}


# --- programs that obey --------------------------------------------------------------------------

class Talker:
    """A running heap-truth or heap-new, maybe below a recorder: `process` has its stdin and stdout."""

    def __init__(self, process):
        self.process = process
        assert process.stdout.readline() == b"ready\n", "it did not start"

    def ask(self, command):
        """Sends a command, gives its answer."""
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"no answer to {command}"
        return json.loads(line)


@contextlib.contextmanager
def talking(command, environment=None, **options):
    """Starts a command that obeys; it is gone at the end. Gives the Talker."""
    with processes.running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
                           **options) as process:
        yield Talker(process)


def truth_command(name, rounds, unit=UNIT_BYTES):
    """The command line of a workload that obeys."""
    return [str(workloads.build(name)), str(rounds), str(unit)]


class Shared:
    """What heap-churn shares with us."""

    FIELDS = ("num_ops", "num_wrong", "stop", "num_signals", "num_children", "num_bad_children")

    BYTES = 8 * len(FIELDS)

    def __init__(self, path):
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), self.BYTES)

    def __getattr__(self, name):
        if name not in self.FIELDS:
            raise AttributeError(name)
        return struct.unpack_from("Q", self._map, 8 * self.FIELDS.index(name))[0]

    def ask_to_stop(self):
        """Tells it to end."""
        struct.pack_into("Q", self._map, 8 * self.FIELDS.index("stop"), 1)

    def moves(self, seconds=20):
        """Whether it goes on allocating."""
        before = self.num_ops
        return processes.wait_until(lambda: self.num_ops > before + 2000, seconds, 0.002)


@contextlib.contextmanager
def churning(file, *words, wrapper=(), environment=None):
    """A running heap-churn: (process, Shared). wrapper: words in front of its command line."""
    command = [*wrapper, workloads.build("heap-churn"), file, *map(str, words)]
    with processes.running(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process, Shared(file)


# --- a target's code -----------------------------------------------------------------------------

def code_ranges(pid):
    """Executable mappings of files: [(start, limit, file offset, path that can be opened)]."""
    out = []
    for line in Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines():
        words = line.split(None, 5)
        if len(words) == 6 and "x" in words[1] and words[5].startswith("/"):
            start, limit = (int(x, 16) for x in words[0].split("-"))
            out.append((start, limit, int(words[2], 16), f"/proc/{pid}/map_files/{start:x}-{limit:x}"))
    return out


def changed_code(pid):
    """Addresses at which a process's code differs from its files."""
    out = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, limit, offset, path in code_ranges(pid):
            with open(path, "rb") as file:
                file.seek(offset)
                original = file.read(limit - start)
            memory.seek(start)
            now = memory.read(len(original))
            if now != original:
                out += [start + i for i, (a, b) in enumerate(zip(now, original)) if a != b]
    return out


def is_clean(pid):
    """Whether a process's code is that of its files; true for one that has ended."""
    try:
        return not changed_code(pid)
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_clean(pid, seconds=30, step=0.01):
    """Waits until nothing is left of our breakpoints; the kernel removes those of a killed process after its end."""
    return processes.wait_until(lambda: is_clean(pid), seconds, step)


# --- what the estimate is worth ------------------------------------------------------------------

class Estimate:
    """A sum of one column over some samples, with its standard deviation. An allocation of s bytes is sampled with
    probability p = 1 - exp(-s/R) and stands for s/p bytes: each that was there adds s*s*(1-p)/p to the variance."""

    def __init__(self):
        self.value = self.variance = self.largest = 0.0

    def add(self, value, objects, size, rate):
        """Adds a row of a profile: samples of one size."""
        p = -math.expm1(-size / rate)
        self.value += value
        self.variance += objects * size * size * (1 - p) / p
        self.largest = max(self.largest, size / p)

    def join(self, other):
        """Adds another estimate."""
        self.value, self.variance = self.value + other.value, self.variance + other.variance
        self.largest = max(self.largest, other.largest)

    @property
    def sigma(self):
        return math.sqrt(self.variance)

    def off_by(self, truth):
        """Distance from the truth, in standard deviations. An estimate that is too low has too low an idea of its
        deviation as well: that is corrected. Where few samples are due the tails are longer than those of the normal
        distribution: two samples more or less are nothing."""
        distance = abs(self.value - truth) - 2 * self.largest
        if distance <= 0:
            return 0.0
        sigma = self.sigma * math.sqrt(max(1, truth / self.value)) if self.value else 0
        return math.copysign(distance / max(sigma, 1), self.value - truth)


def estimates(file, kind, where=None):
    """{function in any place of the stack: Estimate}, and "" for all, of inuse or alloc bytes.
    where: only samples for which it is true."""
    profile = file if isinstance(file, Profile) else Profile(file)
    out = {"": Estimate()}
    for sample in profile.samples:
        value, objects = sample.values[f"{kind}_space"], sample.values[f"{kind}_objects"]
        if not value or sample.names[0] in NO_CODE or (where and not where(sample)):
            continue
        rate = sample.labels.get("rate", profile.proto.period)
        for name in {"", *sample.names}:
            out.setdefault(name, Estimate()).add(value, objects, sample.labels["bytes"], rate)
    return out


def read_json(path):
    """A JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


class Recorder:
    """A running `record --heap -v`: its process, and what it says."""

    def __init__(self, process, log):
        self.process, self._log = process, log

    @property
    def said(self):
        """Its stderr so far."""
        return Path(self._log).read_text(errors="replace")

    def wait_for(self, text):
        """Waits until it has said so."""
        assert processes.wait_until(lambda: text in self.said or self.process.poll() is not None, 60), self.said
        assert text in self.said, self.said

    def wait_until_recording(self):
        """Waits until samples are taken of a process it was told of."""
        self.wait_for("heap: recording")

    def wait_until_probed(self, pid):
        """Waits until a process, maybe a child, has breakpoints."""
        self.wait_for(f"in process {pid}\n")

    def end(self, number=signal.SIGINT, timeout=60):
        """Sends a signal to it alone and waits for its good end; the target may live on."""
        self.process.send_signal(number)
        self.finish(timeout)

    def finish(self, timeout=60):
        """Waits for its good end."""
        status = self.process.wait(timeout=timeout)
        assert status == 0, f"{status}: {self.said}"


@contextlib.contextmanager
def recorder(program, file, *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, environment=None):
    """A running recorder that writes the heap profile `file`, FILE.json and FILE.log; it is gone at the end."""
    log = Path(f"{file}.log")
    command = program.argv("record", "-v", "--heap", file, f"--json={file}.json", *arguments)
    with open(log, "wb") as errors, processes.running(command, stdin=stdin, stdout=stdout, stderr=errors,
                                                      env=environment) as process:
        yield Recorder(process, log)


@contextlib.contextmanager
def attached(program, file, pid, *arguments):
    """The same on a running process, after it has begun to sample."""
    with recorder(program, file, *arguments, "-p", pid) as one:
        one.wait_until_recording()
        yield one
