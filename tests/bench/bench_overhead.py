"""What each engine costs the target, by rate: tables of docs/overhead.md, as Markdown.

Every figure is the median of rounds in which all rows take turns, so that a slow minute of the machine
hits all of them. Ratios are within one round. Environment: O, ROUNDS (5).
"""
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import workloads
from harness.paths import cprofiler_path

ROUNDS = int(os.environ.get("ROUNDS", "5"))
MODES = [("cpu-wide", 99), ("cpu-wide", 999), ("per-task", 99), ("per-task", 999)]
# Real functions of sqlite3: B-trees, a sorter, string functions; about two seconds.
QUERY = ("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c REAL);"
         "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 900000)"
         " INSERT INTO t SELECT x, hex(x * 7919 % 65536), x / 3.0 FROM n;"
         "CREATE INDEX i ON t(b);"
         "SELECT count(*), sum(length(x.b)) FROM t x JOIN t y ON x.a = y.a + 1 WHERE x.b LIKE '%7%';"
         "SELECT b, avg(c) FROM t GROUP BY b ORDER BY 2 DESC LIMIT 3;"
         "SELECT count(DISTINCT replace(b, '3', 'x')) FROM t;")


def run(command):
    """Runs a command to its good end. Returns its standard output and standard error."""
    done = subprocess.run([str(word) for word in command], text=True, check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def recorded(mode, folder):
    """The words in front of a command that has it recorded; none for mode None."""
    if mode is None:
        return []
    engine, hz = mode
    return [cprofiler_path(), "record", "-q", "--engine", engine, "-F", hz, "-o", folder / "cpu.pprof", "--"]


def sqlite_cpu_s(mode, folder):
    """CPU seconds of one sqlite3, as the shell that started it was told by the kernel."""
    script = folder / "load.sql"
    script.write_text(QUERY, encoding="ascii")
    text = run([*recorded(mode, folder), "bash", "-c", f"sqlite3 :memory: '.read {script}' >&2; times"])
    minutes = re.findall(r"(\d+)m([\d.]+)s", text)[-2:]
    return sum(60 * int(m) + float(s) for m, s in minutes)


def pingpong_wall_s(mode, folder):
    """Seconds for two threads that hand over a futex a million times."""
    text = run([*recorded(mode, folder), workloads.build("pingpong"), 500])
    return workloads.truth_of(text)["wall_ns"] / 1e9


def print_ratios(title, measure, folder):
    """One table: the measure without us, and how much more it is with each mode."""
    alone, ratios = [], {mode: [] for mode in MODES}
    measure(None, folder)
    for _ in range(ROUNDS):
        first = measure(None, folder)
        with_modes = {mode: measure(mode, folder) for mode in MODES}
        base = (first + measure(None, folder)) / 2
        alone.append(base)
        for mode, seconds in with_modes.items():
            ratios[mode].append(seconds / base)
    print(f"\n| {title} | median ratio | lowest to highest |\n|---|---|---|")
    print(f"| alone: {statistics.median(alone):.2f} s | 1 | |")
    for engine, hz in MODES:
        values = ratios[engine, hz]
        print(f"| {engine}, {hz} Hz | {statistics.median(values):.3f} | {min(values):.3f} to {max(values):.3f} |")


def main():
    """Prints all tables."""
    version = run([cprofiler_path(), "version"]).strip()
    load = os.getloadavg()[0]
    print(f"{version}, Linux {platform.release()}, {os.cpu_count()} CPUs, load {load:.1f} at the start, "
          f"{ROUNDS} rounds, {time.strftime('%Y-%m-%d')}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print_ratios("CPU time of sqlite3 for a fixed load", sqlite_cpu_s, folder)
        print_ratios("wall time of a million futex hand-overs", pingpong_wall_s, folder)


if __name__ == "__main__":
    main()
