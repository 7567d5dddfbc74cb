"""cprofiler beside `perf record --call-graph dwarf` on the same real programs: cost, speed, completeness.

In each round every recorder runs once over each target, unprofiled first, so that a slow minute hits all
alike. A target does the same amount of work every time. Figures are medians over the rounds. Prints
tables; all single figures go to $O/bench/peers.json.
Environment: O, CPROFILER, ROUNDS (3), HZ (99), TARGETS (names, comma-separated), BENCH_INLINES=1 (perf
script with inlined functions too: minutes on big binaries).

Columns: cpu, wall = the target's CPU and wall time over unprofiled; rec = recorder CPU until it ends, ms
per second of recording; rss = its peak, MB (perf: record or script); disk = MB written; lag = ms by
which the target starts later than unprofiled; file = seconds from the target's end to a finished symbolized
file (perf: its end and `perf script --no-inline`); got = samples taken over those due; compl = stacks
complete to the thread's entry, of those with user frames.
"""
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import elf, processes, programs, quality, workloads
from harness.paths import build_dir, cprofiler_path, find_perf
from harness.pprof import Profile

ROUNDS = int(os.environ.get("ROUNDS", "3"))
HZ = int(os.environ.get("HZ", "99"))
INLINES = os.environ.get("BENCH_INLINES") == "1"
COLUMNS = ("cpu", "wall", "rec", "rss", "disk", "lag", "file", "got", "compl")
TICK = os.sysconf("SC_CLK_TCK")
THREAD_NUMBERS = (1, 100, 1000)
ATTACH_SECONDS = 0.3


def targets():
    """{name: command line}. Those whose program is missing are left out, and said."""
    rows = {
        "sqlite": lambda: programs.prepare("sqlite", 2), "python": lambda: programs.prepare("python", 2),
        "xz": lambda: programs.prepare("xz", 2), "gitpack": lambda: programs.prepare("gitpack", 1),
        "gcc": lambda: programs.prepare("gcc", 2), "node": lambda: programs.prepare("node", 3),
        "pingpong": lambda: [workloads.build("pingpong"), "2500"],
        "threads200": lambda: [workloads.build("threads"), "200", "8"],
        "children": lambda: [workloads.build("forks"), "1500", "2", "2"],
        "deep": lambda: [workloads.build("recursion"), "4", "3000"],
    }
    out = {}
    for name in os.environ.get("TARGETS", ",".join(rows)).split(","):
        why = programs.missing(name) if name in programs.PROGRAMS else None
        if why:
            print(f"{name}: left out, {why}")
        else:
            out[name] = [str(word) for word in rows[name]()]
    return out


# --- running and measuring ---------------------------------------------------------------------

class Finished:
    """A command that has ended well: .started, .ended (monotonic s), .cpu_s (itself only), .rss_mb."""

    def __init__(self, command, stdout=None):
        self.rss_mb = 0.0
        with tempfile.TemporaryFile() as errors:
            self.started = time.monotonic()
            process = subprocess.Popen([str(w) for w in command], stdin=subprocess.DEVNULL,
                                       stdout=stdout or subprocess.DEVNULL, stderr=errors)
            watcher = threading.Thread(target=self._watch, args=(process.pid,), daemon=True)
            watcher.start()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            self.ended = time.monotonic()
            self.cpu_s = own_cpu_seconds(process.pid)
            status = process.wait()
            watcher.join()
            errors.seek(0)
            text = errors.read().decode(errors="replace")
        if status:
            sys.exit(f"{command} ended with {status}:\n{text[-2000:]}")

    def _watch(self, pid):
        while True:
            field = processes.status_field(pid, "VmHWM")
            if field is None:
                return
            self.rss_mb = max(self.rss_mb, int(field.split()[0]) / 1024)
            time.sleep(0.02)


def own_cpu_seconds(pid):
    """CPU of a process without its children, which may be dead but not reaped: ns where it has one thread."""
    coarse = processes.cpu_seconds(pid)
    fine = int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    return coarse if coarse > fine + 3 / TICK else fine


def timed(command, folder):
    """The command line that runs `command` and writes times and cost to a file."""
    return [workloads.build("timed"), folder / "target.json", *command]


def target_of(folder):
    """What timed() wrote."""
    return json.loads((folder / "target.json").read_text(encoding="ascii"))


def figures_of(done, target, rss_mb):
    """The figures that every recorder has."""
    return {"target_cpu": target["cpu"], "target_wall": target["wall"], "rss": rss_mb,
            "rec": 1e3 * done.cpu_s / target["wall"], "start": 1e3 * (target["start"] - done.started)}


# --- recorders ---------------------------------------------------------------------------------

class Unprofiled:
    """The target alone."""

    name = "alone"

    def run(self, command, folder):
        """One round on one target. Returns the figures."""
        done = Finished(timed(command, folder))
        target = target_of(folder)
        return {"target_cpu": target["cpu"], "target_wall": target["wall"],
                "start": 1e3 * (target["start"] - done.started)}


class Perf:
    """perf record --call-graph dwarf,BYTES, then perf script without inlined functions."""

    def __init__(self, stack_bytes):
        self.name, self.stack_bytes = f"perf {stack_bytes // 1024}K", stack_bytes

    def run(self, command, folder):
        """One round on one target. Returns the figures."""
        data, text = folder / "perf.data", folder / "perf.txt"
        done = Finished([find_perf(), "record", "-q", "-e", "cpu-clock", "-F", HZ, "--call-graph",
                         f"dwarf,{self.stack_bytes}", "-o", data, "--", *timed(command, folder)])
        target = target_of(folder)
        with open(text, "wb") as out:
            script = Finished([find_perf(), "script", "--no-inline", "-F", "comm,ip,sym,dso", "-i", data], out)
        figures = figures_of(done, target, max(done.rss_mb, script.rss_mb))
        figures["disk"] = data.stat().st_size / 1e6
        figures["file"] = done.ended - target["end"] + script.ended - script.started
        samples, figures["compl"] = perf_stacks(text)
        figures["got"] = samples / (target["cpu"] * HZ)
        if INLINES:
            slow = Finished([find_perf(), "script", "-i", data])
            figures["file_inlines"] = done.ended - target["end"] + slow.ended - slow.started
        return figures


@functools.lru_cache(maxsize=1000)
def root_pages(path):
    """[(offset in its page, bytes)] of the outermost functions: an ASLR-proof way to know them."""
    if not os.path.isfile(path):
        return []
    out = [(elf.entry(path) & 0xfff, elf.ENTRY_BYTES)]
    if quality.LIBC.search(path):
        out += [(start & 0xfff, limit - start) for start, limit in elf.outermost_ranges(path)]
    return out


def is_root(line):
    """Whether a line "ADDRESS SYMBOL (FILE)" of perf script is an outermost function."""
    found = quality.PERF_LINE.match(line)
    if not found:
        return False
    address, name, path = int(found.group(1), 16), found.group(2), found.group(3)
    return name in quality.ROOT_NAMES or \
        any((address - offset) & 0xfff < size for offset, size in root_pages(path))


def perf_stacks(text):
    """(number of samples, complete share) of perf script's text."""
    samples = user = complete = 0
    for block in text.read_text(errors="replace").split("\n\n"):
        lines = block.strip("\n").splitlines()[1:]
        samples += bool(lines)
        if lines and not lines[-1].rstrip().endswith("([kernel.kallsyms])"):
            user += 1
            complete += is_root(lines[-1])
    return samples, complete / max(1, user)


class CProfiler:
    """The program under test. Its file holds names, lines and inlined functions when it ends."""

    name = "cprofiler"

    def run(self, command, folder):
        """One round on one target. Returns the figures."""
        file = folder / "cpu.pprof"
        done = Finished([cprofiler_path(), "record", "-q", "-F", HZ, "-o", file, "--",
                         *timed(command, folder)])
        target, profile = target_of(folder), Profile(file)
        figures = figures_of(done, target, done.rss_mb)
        figures.update(disk=file.stat().st_size / 1e6, file=done.ended - target["end"],
                       got=profile.total("samples") / (target["cpu"] * HZ),
                       compl=quality.complete_share(profile))
        return figures


# --- tables ------------------------------------------------------------------------------------

def medians(rounds, alone):
    """The figures of one recorder on one target over its rounds, as the columns want them."""
    out = {}
    for column in COLUMNS:
        if column in ("cpu", "wall"):
            values = [r[f"target_{column}"] / a[f"target_{column}"] for r, a in zip(rounds, alone)]
        elif column == "lag":
            values = [r["start"] - a["start"] for r, a in zip(rounds, alone)]
        else:
            values = [r[column] for r in rounds if column in r]
        out[column] = statistics.median(values)
    return out


def print_row(first, second, cells):
    print(f"{first:<12}{second:<11}" + "".join(f"{c:>9}" for c in cells), flush=True)


def compare(recorders, folder):
    """Runs all recorders over all targets and prints the table. Returns the single figures."""
    single = {}
    print_row("target", "recorder", COLUMNS)
    for name, command in targets().items():
        rounds = {r.name: [] for r in recorders}
        for number in range(ROUNDS):
            later = recorders[1:] if number % 2 == 0 else recorders[:0:-1]
            for recorder in [recorders[0], *later]:
                rounds[recorder.name].append(recorder.run(command, folder))
        single[name] = rounds
        for recorder in recorders[1:]:
            row = medians(rounds[recorder.name], rounds["alone"])
            print_row(name, recorder.name, [f"{row[c]:.3f}" if c != "compl" else f"{row[c]:.1%}" for c in COLUMNS])
    return single


def attach_once(command, folder, threads):
    """Attaches to a process of so many threads. Returns (s beyond the recording, longest gap ms)."""
    with processes.running([workloads.build("manythreads"), str(threads), "3"],
                           stdout=subprocess.PIPE) as target:
        target.stdout.readline()
        if command is None:
            beyond = 0.0
        else:
            done = Finished(command(target.pid, folder))
            beyond = done.ended - done.started - ATTACH_SECONDS
        output, _ = target.communicate(timeout=60)
    return beyond, workloads.truth_of(output)["longest_gap_ns"] / 1e6


def attach_times(folder):
    """Prints how long an attach takes beyond its recording, and the target's longest stall."""
    commands = {
        "alone": None,
        "perf 32K": lambda pid, out: [find_perf(), "record", "-q", "-e", "cpu-clock", "-F", HZ, "--call-graph",
                                      "dwarf,32768", "-o", out / "perf.data", "-p", pid, "--", "sleep",
                                      ATTACH_SECONDS],
        "cprofiler": lambda pid, out: [cprofiler_path(), "record", "-q", "-F", HZ, "-o", out / "attach.pprof",
                                       "-d", ATTACH_SECONDS, "-p", pid],
    }
    if not find_perf():
        del commands["perf 32K"]
    single = {}
    print("\nattach to a running process: seconds beyond the recording; longest gap of a busy thread, ms")
    print_row("threads", "recorder", ("seconds", "gap"))
    for threads in THREAD_NUMBERS:
        rows = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                rows[name].append(attach_once(command, folder, threads))
        for name, pairs in rows.items():
            print_row(str(threads), name, [f"{statistics.median(v):.3f}" for v in zip(*pairs)])
        single[threads] = rows
    return single


def main():
    """Runs everything and writes the single figures."""
    recorders = [Unprofiled(), CProfiler()]
    if find_perf():
        recorders[1:1] = [Perf(8192), Perf(32768)]
    else:
        print("perf is not installed: no comparison")
    print(f"{HZ} Hz, {ROUNDS} rounds, medians; {os.cpu_count()} CPUs, Linux {os.uname().release}")
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        single = {"hz": HZ, "rounds": ROUNDS, "programs": compare(recorders, Path(name)),
                  "attach": attach_times(Path(name))}
    file = build_dir() / "bench" / "peers.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(single, indent=1), encoding="ascii")
    print(f"\nsingle figures: {file}")


if __name__ == "__main__":
    main()
