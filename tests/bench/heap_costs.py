"""Section `heap`: what heap profilers cost. The CPU time of a pair of malloc and free, and of real programs.

Added cost of a pair: ns of CPU (all threads, and what the kernel does for them) of the same process with the tool minus
without it, where the tool attaches; where it has to launch the target, minus those of a process without any in the
same round. Twice: at full speed, and `paced` at PAIRS_PER_S. A tool that writes something for each call can't keep up
with full speed, and a call that it loses is cheap; `kept` tells which share of the paced calls it has. Programs: CPU of the target and of the tool together over that of the target alone, the tool's own end
included; redis: CPU of the server alone, for each request.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import time
from pathlib import Path

import recorders
import running
import targets
from harness import heap, processes, workloads
from harness.paths import build_dir, cprofiler_path, find_perf

MULTIARCH = Path("/usr/lib/x86_64-linux-gnu")
LIBC = MULTIARCH / "libc.so.6"
JEMALLOC = MULTIARCH / "libjemalloc.so.2"
WINDOW_S = 0.5
PAIRS_PER_S = 20000
THREADS = (1, 4, 64)
PROGRAMS = ("sqlite", "python", "gcc", "node")
REQUESTS = 60000
EVENT = "cprofiler_bench"
TRACEFS = 'mountpoint -q /sys/kernel/tracing || mount -t tracefs nodev /sys/kernel/tracing'
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Tool:
    """One heap profiler: prefix() for those that launch the target, attach() for those that come later."""

    def __init__(self, name, why_not=None):
        self.name, self.why_not = name, why_not

    launches = attaches = True
    max_threads = 64

    def prefix(self, folder):
        """Words in front of the target's command line."""
        return []

    def environment(self, folder):
        """The target's environment."""
        return recorders.environment(folder)

    def attach(self, pid, folder):
        """The command that attaches to a process."""
        raise NotImplementedError

    def num_kept(self, folder):
        """How many calls it has written down, where it writes each."""
        return None

    def wait_attached(self, process, pid):
        """Waits until it is at work."""
        assert processes.wait_until(lambda: heap.changed_code(pid) or process.poll() is not None, 60), self.name
        if process.poll() is not None:
            raise running.Failed(f"{self.name} ended with {process.returncode}")
        time.sleep(0.3)


class CProfiler(Tool):
    """The program under test, whatever it costs."""

    def _words(self, folder):
        return [cprofiler_path(), "record", "-q", "--heap", folder / "heap.pprof", "--heap-budget", "none"]

    def prefix(self, folder):
        return [*self._words(folder), "--"]

    def attach(self, pid, folder):
        return [*self._words(folder), "-d", 600, "-p", pid]


class Heaptrack(Tool):
    """heaptrack: every call, by a library in the target."""

    def __init__(self):
        super().__init__("heaptrack", None if shutil.which("heaptrack") else "not installed (apt install heaptrack)")

    def prefix(self, folder):
        return [shutil.which("heaptrack"), "-o", folder / "heaptrack"]

    def attach(self, pid, folder):
        return [*self.prefix(folder), "-p", pid]

    def wait_attached(self, process, pid):
        """It has gdb call dlopen() in the target, of which some die."""
        maps = Path(f"/proc/{pid}/maps")
        processes.wait_until(lambda: processes.state(pid) in (None, "Z") or "heaptrack" in maps.read_text(errors="replace"),
                             60)
        if processes.state(pid) in (None, "Z"):
            raise running.Failed("heaptrack -p was the end of the target")
        if "heaptrack" not in maps.read_text(errors="replace"):
            raise running.Failed("heaptrack did not get into the target")
        time.sleep(1)


class PerfUprobe(Tool):
    """perf record on a uprobe at malloc, 8 KB of stack each time. Frees are not seen."""

    launches = False

    def __init__(self):
        super().__init__("perf uprobe", None if find_perf() else "not installed (apt install linux-perf)")

    def attach(self, pid, folder):
        script = (f"{TRACEFS}; {find_perf()} probe -q -d 'probe_libc:{EVENT}'; "
                  f"{find_perf()} probe -q -x {LIBC} --add {EVENT}=malloc && exec {find_perf()} record -q -m 16M "
                  f"-e probe_libc:{EVENT} --call-graph dwarf,8192 -o {folder}/perf.data -p {pid}")
        return ["unshare", "-m", "sh", "-c", script]

    def num_kept(self, folder):
        stats = subprocess.run([find_perf(), "report", "--stats", "-i", folder / "perf.data"], check=True, text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120)
        return int(re.search(r"SAMPLE events: *(\d+)", stats.stdout).group(1))

    @staticmethod
    def clean():
        """Takes the event away."""
        subprocess.run(["unshare", "-m", "sh", "-c", f"{TRACEFS}; {find_perf()} probe -q -d 'probe_libc:{EVENT}'"],
                       check=False, **QUIET)


class Bpftrace(Tool):
    """bpftrace: bytes by stack of 10 frames, summed in the kernel. Frees are not seen."""

    launches = False

    def __init__(self):
        super().__init__("bpftrace", None if shutil.which("bpftrace") else "not installed (apt install bpftrace)")

    def attach(self, pid, folder):
        return ["bpftrace", "-q", "-p", pid, "-e", f"uprobe:{LIBC}:malloc {{ @[ustack(10)] = sum(arg0) }}"]


class Gperftools(Tool):
    """gperftools' HEAPPROFILE: every call, in the target, which runs on tcmalloc then."""

    attaches = False

    def __init__(self):
        self.library = MULTIARCH / "libtcmalloc.so.4"
        super().__init__("gperftools", None if self.library.exists() else
                         "not installed (apt install libgoogle-perftools4)")

    def environment(self, folder):
        return {**super().environment(folder), "LD_PRELOAD": str(self.library),
                "HEAPPROFILE": str(folder / "gperftools")}


class Massif(Tool):
    """valgrind's massif: the program is simulated."""

    attaches = False
    max_threads = 4

    def __init__(self):
        super().__init__("massif", None if shutil.which("valgrind") else "not installed (apt install valgrind)")

    def prefix(self, folder):
        return ["valgrind", "-q", "--tool=massif", f"--massif-out-file={folder}/massif"]


def all_tools(report):
    """Those that run here; the others are named with the reason."""
    wanted = [*os.environ.get("BENCH_RECORDERS", ".*").split(","), "cprofiler"]
    out = []
    for tool in (CProfiler("cprofiler"), Heaptrack(), PerfUprobe(), Bpftrace(), Gperftools(), Massif()):
        if not any(re.fullmatch(w, tool.name) for w in wanted):
            continue
        if tool.why_not:
            report.line(f"{tool.name}: {tool.why_not}")
            report.figures.setdefault("missing", {})[tool.name] = tool.why_not
        else:
            out.append(tool)
    return out


# --- pairs of malloc and free --------------------------------------------------------------------

class Pairs:
    """A running heap-pairs."""

    def __init__(self, process):
        self.process, self.num_pairs = process, 0
        if b"ready\n" not in iter(process.stdout.readline, b""):  # heaptrack talks before
            raise running.Failed("heap-pairs did not start")

    def pair_ns(self, seconds=WINDOW_S, per_second=0):
        """CPU ns of a pair in one window; per_second: how many pairs, 0: as many as it can."""
        self.process.stdin.write(f"{seconds} {per_second}\n".encode())
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.num_pairs += answer["num_pairs"]
        return answer["pair_ns"]

    def paced_ns(self):
        """The same at a pace with which everybody keeps up."""
        return self.pair_ns(WINDOW_S, PAIRS_PER_S)


@contextlib.contextmanager
def pairs(threads, prefix=(), environment=None):
    """Starts heap-pairs; it ends at the end."""
    command = [*map(str, prefix), workloads.build("heap-pairs"), str(threads)]
    with processes.running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           env=environment, start_new_session=True) as process:
        one = Pairs(process)
        yield one
        process.stdin.close()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def attached(tool, pid, folder):
    """A tool at work on a process. Gives a dictionary that gets, at the end, how long the detach took."""
    command = [str(word) for word in tool.attach(pid, folder)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, env=recorders.environment(folder),
                               **QUIET)
    done = {}
    try:
        tool.wait_attached(process, pid)
        yield done
        has_breakpoints, began = bool(heap.changed_code(pid)), time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        if has_breakpoints and heap.wait_until_clean(pid, 120):
            done["detach_s"] = time.monotonic() - began
        process.wait(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)


def launched(tool, threads, folder, alone):
    """Figures of a tool that launches the target."""
    with pairs(threads, tool.prefix(folder), tool.environment(folder)) as target:
        target.pair_ns(0.1)
        paced, full = target.paced_ns(), target.pair_ns()
    return {"pair": full, "added": full - alone["pair"], "paced": paced - alone["paced pair"]}


def attached_figures(tool, threads, folder):
    """Figures of a tool that attaches."""
    with pairs(threads) as target:
        target.pair_ns(0.1)
        before_paced, before = target.paced_ns(), target.pair_ns()
        with attached(tool, target.process.pid, folder):
            target.num_pairs = 0
            paced = target.paced_ns()
        kept = tool.num_kept(folder)
        num_paced = target.num_pairs
        with attached(tool, target.process.pid, folder) as done:
            full = target.pair_ns()
    out = {"pair": full, "added": full - before, "paced": paced - before_paced, **done}
    return out if kept is None else {**out, "kept": kept / num_paced}


def pairs_round(report, tools, threads, folder, number):
    """{tool: figures} of one round."""
    with pairs(threads) as target:
        target.pair_ns(0.1)
        out = {"alone": {"paced pair": target.paced_ns(), "pair": target.pair_ns()}}
    for tool in tools if number % 2 == 0 else tools[::-1]:
        if threads > tool.max_threads:
            continue
        report.progress(f"pairs, {threads} threads, round {number + 1}: {tool.name}")
        try:
            if tool.launches:
                out[tool.name] = launched(tool, threads, folder, out["alone"])
            if tool.attaches:
                out[f"{tool.name} -p"] = attached_figures(tool, threads, folder)
        except (running.Failed, AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as why:
            report.progress(f"failed: {why}")
        for file in folder.iterdir():
            if file.is_file():
                file.unlink()
    return out


def medians(rounds):
    """{tool: {column: median}}."""
    names = dict.fromkeys(name for one in rounds for name in one)
    return {name: {column: statistics.median(r[name][column] for r in rounds if column in r.get(name, {}))
                   for column in dict.fromkeys(c for r in rounds for c in r.get(name, {}))} for name in names}


def compare_pairs(report, tools, folder, num_rounds):
    """The table of pairs: {threads: {tool: columns}}."""
    table, single = {}, {}
    report.line("\na pair of malloc and free: ns of CPU, and what the tool adds; s from SIGINT until nothing of it is left in "
                "the target's code")
    forms = {"pair": "{:.0f}", "added": "{:.0f}", "paced": "{:.0f}", "kept": "{:.0%}", "detach_s": "{:.2f}"}
    report.row(("threads", "tool"), ("ns", "added", "paced", "kept", "detach s"))
    for threads in THREADS:
        single[threads] = [pairs_round(report, tools, threads, folder, n) for n in range(num_rounds)]
        table[threads] = medians(single[threads])
        for name, row in table[threads].items():
            report.row((str(threads), name), [form.format(row[c]) if c in row else "-" for c, form in forms.items()])
    return table, single


# --- where the breakpoint stands -----------------------------------------------------------------

def sites_round(folder):
    """{"alone", "slid", "entry"}: ns of a pair on jemalloc, with the sites that we choose and with those at the entries."""
    out, program = {}, build_dir() / "tests" / "bench" / "bench_heap"
    with pairs(1, environment=heap.preload("jemalloc")) as target:
        target.pair_ns(0.1)
        out["alone"] = target.pair_ns()
        for place in ("slid", "entry"):
            command = [program, str(target.process.pid), str(JEMALLOC), place]
            with processes.running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as probes:
                if probes.stdout.readline() != b"ready\n":
                    raise running.Failed(f"bench_heap {place} did not start")
                target.pair_ns(0.1)
                out[place] = target.pair_ns()
                probes.stdin.close()
                probes.wait(timeout=60)
    return out


def compare_sites(report, folder, num_rounds):
    """The table of sites."""
    if not JEMALLOC.exists():
        report.line("sites on jemalloc: libjemalloc2 is not installed")
        return {}, []
    rounds = []
    for number in range(num_rounds):
        report.progress(f"sites on jemalloc, round {number + 1}")
        rounds.append(sites_round(folder))
    table = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    table["ratio"] = statistics.median((r["slid"] - r["alone"]) / (r["entry"] - r["alone"]) for r in rounds)
    report.line(f"\njemalloc, ns a pair: {table['alone']:.0f} alone, {table['slid']:.0f} with breakpoints at emulated "
                f"instructions, {table['entry']:.0f} at the functions' entries; added {table['ratio']:.3f} of that")
    return table, rounds


# --- programs ------------------------------------------------------------------------------------

def total_cpu(command, folder, environment, limit_s):
    """CPU of a command and of all that it waited for."""
    done = running.Running(command, environment=environment)
    try:
        done.finish(limit_s)
        return done.cpu_s + done.children_cpu_s
    finally:
        done.stop()


def compare_programs(report, tools, folder, num_rounds, seconds, slow_s):
    """{program: {tool: CPU ratio}}."""
    table, single = {}, {}
    launching = [tool for tool in tools if tool.launches]
    report.line("\nprograms: CPU of target and tool over the target alone")
    report.row(("program",), [tool.name for tool in launching])
    wanted = os.environ.get("BENCH_TARGETS", ".*").split(",")
    for target in [t for t in targets.chosen(PROGRAMS) if any(re.fullmatch(w, t.name) for w in wanted)]:
        if targets.missing(target):
            report.line(f"{target.name}: left out, {targets.missing(target)}")
            continue
        command, rounds = targets.command_of(target, seconds), []
        for number in range(num_rounds):
            row, order = {}, launching if number % 2 == 0 else launching[::-1]
            alone = total_cpu(command, folder, recorders.environment(folder), 600)
            for tool in order:
                report.progress(f"{target.name}, round {number + 1}: {tool.name}")
                with contextlib.suppress(running.Failed):
                    row[tool.name] = total_cpu([*tool.prefix(folder), *command], folder, tool.environment(folder), slow_s)
            alone = (alone + total_cpu(command, folder, recorders.environment(folder), 600)) / 2
            rounds.append({name: {"ratio": cpu / alone} for name, cpu in row.items()})
        single[target.name] = rounds
        table[target.name] = {name: row["ratio"] for name, row in medians(rounds).items()}
        report.row((target.name,), [f"{table[target.name][t.name]:.2f}" if t.name in table[target.name] else "stopped"
                                    for t in launching])
    return table, single


@contextlib.contextmanager
def redis_server(folder):
    """A redis-server, as Debian builds it: on jemalloc. Gives (pid, port)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir",
               str(folder), "--daemonize", "no"]
    with processes.running(command, **QUIET) as server:
        def answers():
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0
        if not processes.wait_until(answers):
            raise running.Failed("redis-server did not start")
        yield server.pid, port


def request_us(pid, port):
    """CPU us of the server for a request."""
    before = processes.cpu_seconds(pid)
    subprocess.run(["redis-benchmark", "-p", str(port), "-c", "20", "-n", str(REQUESTS), "-t", "set,get", "-d", "100", "-r",
                    "10000", "-q"], check=True, stdin=subprocess.DEVNULL, timeout=300, **QUIET)
    return 1e6 * (processes.cpu_seconds(pid) - before) / (2 * REQUESTS)


def compare_redis(report, tools, folder, num_rounds):
    """{tool: {"us", "ratio"}}: CPU us of a request."""
    if not shutil.which("redis-server"):
        report.line("redis: not installed (apt install redis-server redis-tools)")
        return {}, []
    rounds = []
    for number in range(num_rounds):
        row = {}
        with redis_server(folder) as (pid, port):
            request_us(pid, port)
            for tool in [t for t in tools if t.attaches and t.name not in ("perf uprobe", "bpftrace")]:
                report.progress(f"redis, round {number + 1}: {tool.name} -p")
                alone = request_us(pid, port)
                with contextlib.suppress(running.Failed, AssertionError), attached(tool, pid, folder):
                    us = request_us(pid, port)
                    row[f"{tool.name} -p"] = {"us": us, "alone us": alone, "ratio": us / alone}
        rounds.append(row)
    table = medians(rounds)
    for name, row in table.items():
        report.line(f"redis-server on jemalloc, {name}: {row['us']:.2f} us of CPU a request, {row['ratio']:.2f} of "
                    "those alone")
    return table, rounds


def section(report, folder, num_rounds, seconds, slow_s):
    """All of it. Returns the figures."""
    tools, out = all_tools(report), {}
    folder = Path(folder) / "heap"
    folder.mkdir(exist_ok=True)
    try:
        out["pairs"], pair_rounds = compare_pairs(report, tools, folder, num_rounds)
        out["sites"], site_rounds = compare_sites(report, folder, num_rounds)
        out["programs"], program_rounds = compare_programs(report, tools, folder, num_rounds, seconds, slow_s)
        out["redis"], redis_rounds = compare_redis(report, tools, folder, num_rounds)
    finally:
        if any(tool.name == "perf uprobe" for tool in tools):
            PerfUprobe.clean()
    return {"table": out, "single": {"pairs": pair_rounds, "sites": site_rounds, "programs": program_rounds,
                                     "redis": redis_rounds}}
