"""`make bench`: cprofiler beside the profilers that this machine has, on the same targets; docs/overhead.md explains it.

usage: bench.py [SECTION...]          (without: all, in this order)
  start      how much later a launched target starts
  programs   cost to the target, recorder's CPU, memory, disk, time to the finished file, samples, whole stacks; 99 Hz
  fast       the same at 999 Hz on sqlite, pingpong and threads200
  finish     the finished file beside perf script with inlined functions and perf report: sqlite, cc1plus, node
  attach     to processes of 1, 100 and 1000 threads: time, and the target's longest stall
  unwind     ns a stack, beside libdw and libunwind on the same samples
  symbolize  symbols a second, beside addr2line, eu-addr2line, llvm-symbolizer and perf script
  heap       heap profilers: CPU of a pair of malloc and free and of programs, beside heaptrack, perf, massif, ...
  stages     single stages of ours: interning, memory bound, writing
Environment: O, CPROFILER; BENCH_SECONDS (2): CPU seconds of each target; BENCH_ROUNDS (3); BENCH_TARGETS and
BENCH_RECORDERS (patterns, comma-separated; "alone" and cprofiler always run); BENCH_SLOW_SECONDS (60): when a slow
tool is stopped. The table goes to stdout and $O/bench/bench.txt, all single figures to $O/bench/bench.json.

Within a round all recorders take turns on a target, unprofiled first and last; figures are medians over the
rounds, ratios are built within a round.
"""
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import goals  # noqa: E402
import heap_costs  # noqa: E402
import naming  # noqa: E402
import recorders  # noqa: E402
import running  # noqa: E402
import targets  # noqa: E402
from harness import processes, workloads  # noqa: E402
from harness.paths import build_dir, cprofiler_path, find_perf  # noqa: E402

SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SLOW_SECONDS = float(os.environ.get("BENCH_SLOW_SECONDS", "60"))
COLUMNS = {"cpu": "{:.3f}", "wall": "{:.3f}", "rec": "{:.1f}", "tot": "{:.1f}", "rss": "{:.1f}", "disk": "{:.3f}",
           "file": "{:.3f}", "got": "{:.3f}", "compl": "{:.1%}"}
FAST_TARGETS = ("sqlite", "pingpong", "threads200")
FINISH_TARGETS = ("sqlite", "cc1plus", "node")
GDB_TARGETS = ("sqlite", "threads200")
PER_TASK_TARGETS = ("sqlite", "pingpong")
THREAD_NUMBERS = (1, 100, 1000)
ATTACH_SECONDS = 0.3


class Report:
    """What is printed, and kept in $O/bench. Progress goes to stderr."""

    def __init__(self):
        self.folder = build_dir() / "bench"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.text, self.figures, self.started = [], {}, time.monotonic()

    def line(self, text=""):
        """One line of the table."""
        self.text.append(text)
        print(text, flush=True)

    def row(self, names, cells):
        """Cells below columns; names are wider."""
        self.line("".join(f"{n:<12}" for n in names[:-1]) + f"{names[-1]:<20}" + "".join(f"{c:>10}" for c in cells))

    def progress(self, text):
        """What is done now, with the time that has passed."""
        print(f"[{time.monotonic() - self.started:5.0f} s] {text}", file=sys.stderr, flush=True)

    def save(self):
        """Writes both files."""
        (self.folder / "bench.txt").write_text("\n".join(self.text) + "\n", encoding="utf-8")
        (self.folder / "bench.json").write_text(json.dumps(self.figures, indent=1), encoding="utf-8")


def median(values):
    """Median of what was measured; None when nothing was."""
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def shown(value, form):
    """A cell."""
    return "-" if value is None else form.format(value)


# --- recorders over targets --------------------------------------------------------------------

def available(report):
    """The recorders that run here; the others are named with the reason."""
    wanted = [*os.environ.get("BENCH_RECORDERS", ".*").split(","), "alone", "cprofiler"]
    out = []
    for recorder in [*recorders.all_recorders(), recorders.CProfiler("per-task")]:
        if any(re.fullmatch(w, recorder.name) for w in wanted):
            why = recorder.why_not()
            if why:
                report.line(f"{recorder.name}: {why}")
                report.figures.setdefault("missing", {})[recorder.name] = why
            else:
                out.append(recorder)
    return out


def fits(recorder, target, hz):
    """Whether a recorder is run on a target: gdb stops all threads for each look, so two targets must do."""
    if recorder.name == "gdb":
        return target.name in GDB_TARGETS and hz == 99
    return recorder.name != "cprofiler per-task" or target.name in PER_TASK_TARGETS


def one_round(report, players, command, folder, hz, name, number):
    """All recorders once, unprofiled before and after. Returns {recorder: figures}."""
    alone, rest = players[0], players[1:] if number % 2 == 0 else players[:0:-1]
    before = alone.run(command, folder, hz)
    out = {}
    for recorder in rest:
        report.progress(f"{name}, {hz} Hz, round {number + 1} of {ROUNDS}: {recorder.name}")
        try:
            out[recorder.name] = recorder.run(command, folder, hz, number == 0)
        except running.Failed as why:
            report.progress(f"failed: {why}")
            out[recorder.name] = {"failed": str(why)}
    after = alone.run(command, folder, hz)
    out["alone"] = {k: (before[k] + after[k]) / 2 for k in before}
    return out


def summary_of(rounds, recorder):
    """The columns of one recorder on one target."""
    good = [(r[recorder], r["alone"]) for r in rounds if "failed" not in r[recorder]]
    out = {c: median([figures.get(c) for figures, _ in good]) for c in COLUMNS}
    for column in ("cpu", "wall"):
        out[column] = median([figures[f"target_{column}"] / alone[f"target_{column}"] for figures, alone in good])
    return out


def compare(report, folder, players, names, hz):
    """Runs and prints. Returns {target: {recorder: columns}} and the single figures."""
    table, single = {}, {}
    report.line(f"\n{hz} Hz. cpu, wall: the target's, over unprofiled; rec: recorder until the target ends, ms of CPU per "
                "s;\ntot: until its finished file; rss: its peak, MB; disk: MB;\nfile: s from the target's end "
                "to the finished file (perf: perf script --no-inline; samply: no names yet);\n"
                "got: samples taken over those due; compl: stacks complete, of those with user frames")
    report.row(("target", "recorder"), COLUMNS)
    wanted = os.environ.get("BENCH_TARGETS", ".*").split(",")
    for target in [t for t in targets.chosen(names) if any(re.fullmatch(w, t.name) for w in wanted)]:
        if targets.missing(target):
            report.line(f"{target.name}: left out, {targets.missing(target)}")
            continue
        command, here = targets.command_of(target, SECONDS), [p for p in players if fits(p, target, hz)]
        rounds = [one_round(report, here, command, folder, hz, target.name, n) for n in range(ROUNDS)]
        single[target.name] = rounds
        table[target.name] = {p.name: summary_of(rounds, p.name) for p in here[1:]}
        for name, columns in table[target.name].items():
            report.row((target.name, name), [shown(columns[c], form) for c, form in COLUMNS.items()])
    return {"table": table, "single": single}


def section_programs(report, folder, players):
    """All targets at 99 Hz."""
    return compare(report, folder, players, list(targets.TARGETS), 99)


def section_fast(report, folder, players):
    """Three targets at 999 Hz."""
    return compare(report, folder, players, FAST_TARGETS, 999)


def section_start(report, folder, players):
    """When a launched target's main() begins, against an unprofiled start."""
    launching = [p for p in players if not isinstance(p, recorders.Attached)]
    file, times = folder / "started.json", {p.name: [] for p in launching}
    command = [workloads.build("timed"), file, "/bin/true"]
    for number in range(3 * ROUNDS):
        for recorder in launching if number % 2 == 0 else launching[::-1]:
            words = [] if recorder.name == "alone" else recorder.prefix(folder, 99)
            done = running.run([*words, *command], environment=recorders.environment(folder))
            times[recorder.name].append(1e3 * (json.loads(file.read_text(encoding="ascii"))["start"] - done.started))
    alone = median(times["alone"])
    report.line(f"\nms by which a launched target starts later than by itself ({alone:.1f} ms)")
    report.row(("recorder",), ("median", "lowest", "highest"))
    for name, values in times.items():
        if name != "alone":
            report.row((name,), [f"{f(values) - alone:.1f}" for f in (median, min, max)])
    return {"table": {name: median(v) - alone for name, v in times.items() if name != "alone"}, "single": times}


def seconds_of(command, folder, limit_s):
    """(wall seconds of a command, whether it ended by itself within the limit)."""
    with open(os.devnull, "wb") as nowhere:
        done = running.Running(command, nowhere, recorders.environment(folder))
        try:
            done.finish(limit_s, statuses=range(-64, 256))
        finally:
            done.stop()
    return done.ended - done.started, done.status == 0


def section_finish(report, folder, players):
    """Our finished file with inlined functions beside perf's ways to names."""
    table, perf, data = {}, next((p for p in players if p.name == "perf 32K"), None), folder / "perf.data"
    if not perf:
        return {"table": {}, "why": "perf 32K is not among the recorders"}
    ours = next(p for p in players if p.name == "cprofiler")
    ways = {"script --no-inline": ["script", "--no-inline"], "script": ["script"], "report": ["report", "--stdio"],
            "report --no-inline": ["report", "--stdio", "--no-inline"]}
    report.line(f"\ns from the target's end to a finished file; perf's own end included; > {SLOW_SECONDS:.0f}: stopped")
    report.row(("target", "way"), ("seconds", "over ours"))
    for target in targets.chosen(FINISH_TARGETS):
        if targets.missing(target):
            report.line(f"{target.name}: left out, {targets.missing(target)}")
            continue
        command = targets.command_of(target, SECONDS)
        our_s = median([ours.run(command, folder, 99, False)["file"] for _ in range(ROUNDS)])
        recorded = running.Running([*perf.prefix(folder, 99), *command], environment=recorders.environment(folder))
        end_s = running.wait_for_end(recorded.find(command)[0])
        own_s = recorded.finish().ended - end_s
        row = {"cprofiler": {"seconds": our_s, "whole": True}}
        for way, words in ways.items():
            report.progress(f"{target.name}: perf {way}")
            wall_s, whole = seconds_of([find_perf(), *words, "-i", data], folder, SLOW_SECONDS)
            row[f"perf {way}"] = {"seconds": own_s + wall_s, "whole": whole}
        for way, figure in row.items():
            report.row((target.name, way), [f"{'' if figure['whole'] else '> '}{figure['seconds']:.3f}",
                                            f"{figure['seconds'] / our_s:.1f}"])
        table[target.name] = row
    return {"table": table}


# --- attach ------------------------------------------------------------------------------------

def attach_once(command, threads):
    """Attaches to a process of so many threads. Returns (s beyond the recording, longest gap ms)."""
    with processes.running([workloads.build("manythreads"), str(threads), "2.5"], stdout=subprocess.PIPE) as target:
        target.stdout.readline()
        beyond = 0.0
        if command:
            done = running.run(command(target.pid))
            beyond = done.ended - done.started - ATTACH_SECONDS
        output, _ = target.communicate(timeout=60)
    return beyond, workloads.truth_of(output)["longest_gap_ns"] / 1e6


def section_attach(report, folder, players):
    """How long an attach takes beyond its recording, and the target's longest stall."""
    commands = {
        "alone": None,
        "perf 32K": lambda pid: [find_perf(), "record", "-q", "-e", "cpu-clock", "-F", 99, "--call-graph",
                                 "dwarf,32768", "-o", folder / "perf.data", "-p", pid, "--", "sleep", ATTACH_SECONDS],
        "cprofiler": lambda pid: [cprofiler_path(), "record", "-q", "-F", 99, "-o", folder / "attach.pprof", "-d",
                                  ATTACH_SECONDS, "-p", pid],
    }
    names, table, single = {p.name for p in players}, {}, {}
    report.line("\nattach to a running process: s beyond the recording, to the finished file; longest gap of a busy "
                "thread, ms")
    report.row(("threads", "recorder"), ("seconds", "gap"))
    for threads in THREAD_NUMBERS:
        rows = {name: [] for name in commands if name in names}
        for number in range(ROUNDS):
            report.progress(f"attach to {threads} threads, round {number + 1} of {ROUNDS}")
            for name, rounds in rows.items():
                rounds.append(attach_once(commands[name], threads))
        table[threads] = {name: dict(zip(("seconds", "gap"), map(median, zip(*v)))) for name, v in rows.items()}
        single[threads] = rows
        for name, row in table[threads].items():
            report.row((str(threads), name), [f"{row['seconds']:.3f}", f"{row['gap']:.3f}"])
    return {"table": table, "single": single}


# --- single stages -----------------------------------------------------------------------------

def program(name):
    """A C benchmark."""
    return build_dir() / "tests" / "bench" / name


def section_unwind(report, folder, _players):
    """bench_unwind, by median over ROUNDS runs."""
    runs = []
    for _ in range(ROUNDS):
        running.run([program("bench_unwind"), folder / "unwind.json"])
        runs.append(json.loads((folder / "unwind.json").read_text(encoding="ascii"))["results"])
    report.line("\nunwinding the same recorded samples")
    report.row(("engine", ""), ("ns/stack", "ns/frame", "over ours"))
    table = {}
    for place, row in enumerate(runs[0]):
        figures = {key: median([r[place][key] for r in runs]) for key in ("stack_ns", "frame_ns", "ratio")}
        table[row["name"]] = figures
        report.line(f"{row['name']:<32}{figures['stack_ns']:>10.0f}{figures['frame_ns']:>10.1f}"
                    f"{figures['ratio']:>10.2f}")
    return {"table": table, "single": runs}


def section_symbolize(report, folder, _players):
    """The same addresses of one file by everybody."""
    path = naming.large_file(program("bench_unwind"))
    report.line(f"\naddresses of {path}, named with file, line and inlined functions; medians of {ROUNDS}")
    report.row(("tool", ""), ("CPU s", "wall s", "symbols/s", "over ours", "peak MB"))
    table, single = naming.compare(path, program("bench_symbolize"), folder, ROUNDS, report.progress)
    for name, row in table.items():
        if isinstance(row, str):
            report.line(f"{name:<32}{row}")
        else:
            cells = [f"{row['cpu']:.3f}", f"{row['wall']:.3f}", f"{row['rate']:.0f}", f"{row['ratio']:.2f}", f"{row['peak']:.0f}"]
            if not row["whole"]:  # the CPU of its own children that were killed with it is told by nobody
                cells = ["-", "-", "-", "-", f"{row['peak']:.0f}", "   stopped"]
            report.line(f"{name:<32}" + "".join(f"{cell:>10}" for cell in cells))
    return {"table": table, "single": single, "file": str(path)}


def section_heap(report, folder, _players):
    """Heap profilers."""
    return heap_costs.section(report, folder, ROUNDS, SECONDS / 3, SLOW_SECONDS)


def section_stages(report, _folder, _players):
    """The other C benchmarks, as they print."""
    for path in sorted(build_dir().glob("tests/bench/bench_*")):
        if path.suffix or path.name in ("bench_unwind", "bench_symbolize", "bench_heap"):
            continue
        done = subprocess.run([path], check=True, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        report.line(f"\n{path.name}\n{done.stdout.rstrip()}")
    return {}


SECTIONS = {name.removeprefix("section_"): globals()[name] for name in (
    "section_start", "section_programs", "section_fast", "section_finish", "section_attach", "section_unwind",
    "section_symbolize", "section_heap", "section_stages")}


def main(names):
    """Runs the sections. Returns the exit status."""
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        sys.exit(f"no section {unknown[0]}; there are: {' '.join(SECTIONS)}")
    report = Report()
    version = subprocess.run([cprofiler_path(), "version"], check=True, text=True, stdout=subprocess.PIPE).stdout
    machine = (f"{version.strip()}, Linux {platform.release()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at "
               f"the start, {SECONDS:g} s and {ROUNDS} rounds, {time.strftime('%Y-%m-%d')}")
    report.line(machine)
    report.figures.update(machine=machine, seconds=SECONDS, rounds=ROUNDS, load=os.getloadavg())
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        players = available(report)
        for section in names or SECTIONS:
            report.progress(section)
            report.figures[section] = SECTIONS[section](report, Path(name), players)
            report.save()
    report.figures["goals"] = goals.judge(report.figures)
    goals.show(report)
    report.line(f"\n{time.monotonic() - report.started:.0f} s, load {os.getloadavg()[0]:.1f} at the end; "
                f"single figures: {report.folder / 'bench.json'}")
    report.save()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
