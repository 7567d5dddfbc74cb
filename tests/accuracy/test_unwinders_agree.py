"""Our chains are those of other unwinders, on real programs in C, C++, Rust, Go, Perl, Python and JavaScript.

Recorded samples: libunwind and libdw walk the same bytes (compare_unwind.c). Live stops: gdb and eu-stack
walk the stopped process (gdb_stops.py, compare_stopped.c). A difference counts, unless it is of a class
that is known, coded there, and explained.

Environment: UNWIND_SAMPLES (1500 for each program), UNWIND_STOPS (2).
"""
import itertools
import json
import os
import subprocess
import time

import pytest

from harness import elf, programs
from harness.paths import TESTS, build_dir

SAMPLES = os.environ.get("UNWIND_SAMPLES", "1500")
STOPS = os.environ.get("UNWIND_STOPS", "2")
LEAST_SAMPLES = 400
EQUAL = 0.995
# Sampled: every language and compiler. Stopped: gdb takes its time on each.
SAMPLED = ["sqlite", "python", "xz", "gitlog", "gitpack", "node", "cc1plus", "perl", "openssl", "ripgrep", "go"]
STOPPED = ["sqlite", "python", "xz", "gitpack", "cc1plus", "openssl", "ripgrep", "go"]
SWITCHES = ["runtime.systemstack.abi0", "runtime.mcall", "runtime.mcall.abi0", "runtime.morestack.abi0",
            "runtime.systemstack", "runtime.morestack"]


def prepare(name, size):
    why = programs.missing(name)
    assert not why, why
    return programs.prepare(name, size)


@pytest.mark.parametrize("name", SAMPLED)
def test_chains_of_samples_equal_libunwind(build_folder, tmp_path, name, figure):
    tool, result = build_folder / "tests/accuracy/compare_unwind", tmp_path / "result.json"
    command = prepare(name, 2 if name in ("sqlite", "gitpack", "ripgrep", "openssl") else 1)
    done = subprocess.run([tool, "-n", SAMPLES, "-o", result, "--", *command], check=False, timeout=200,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    shown = done.stderr.decode(errors="replace")[-4000:]
    assert done.returncode == 0, shown
    counts = json.loads(result.read_text(encoding="ascii"))
    judged = counts["samples"] - counts["jit"] - counts["no_cfi"] - counts["popped"]
    equal = sum(counts[k] for k in ("equal", "equal_cut", "past_root", "signal"))
    figure(f"{name}: {equal} of {judged} chains equal ({equal / max(judged, 1):.2%}); {counts}")
    assert counts["samples"] >= LEAST_SAMPLES, shown
    assert judged >= LEAST_SAMPLES / 2, counts
    assert equal >= EQUAL * judged, (counts, shown)


@pytest.mark.parametrize("name,size,cut", [("sqlite", 2, "4096"), ("gitpack", 2, "8192")])
def test_remembered_frames_are_those_of_the_whole_stack(build_folder, tmp_path, name, size, cut, figure):
    """Ours gets the start of each stack and what it remembers; libunwind the whole (docs/adr/0014)."""
    tool, result = build_folder / "tests/accuracy/compare_unwind", tmp_path / "result.json"
    done = subprocess.run([tool, "-n", SAMPLES, "-c", cut, "-o", result, "--", *prepare(name, size)], check=False,
                          timeout=200, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    shown = done.stderr.decode(errors="replace")[-4000:]
    assert done.returncode == 0, shown
    counts = json.loads(result.read_text(encoding="ascii"))
    figure(f"{name}, cut at {cut}: {counts}")
    assert counts["recalled"] >= LEAST_SAMPLES / 4, counts
    assert counts["different"] + counts["witness_cut"] <= counts["recalled"] / 200, (counts, shown)


def is_same(ours, other):
    """Equal chains: the leaf exactly; callers as call or as return address, one behind it."""
    return len(ours) == len(other) and ours[:1] == other[:1] and \
        all(b in (a, a + 1) for a, b in zip(ours[1:], other[1:]))


def in_function(file, names, address):
    """Whether a function of these names in a file that is not relocated holds the address."""
    symbols = elf.symbols(file)
    return any(symbols[n][0] <= address < sum(symbols[n]) for n in names if n in symbols)


def agreement(file, row):
    """How one stopped thread compares: with whom it is equal, or "different".

    Past the root: equal to the thread's entry, where the other goes on to a place that is no code (no one
    tells them that Go's goexit and mstart have no caller). To the scheduler's stack: equal up to where Go's
    runtime changes stacks; only we find the way to the goroutine that called it. The scheduler's stack of the main
    thread begins with what its start left there, one more return address, into newproc.
    """
    ours, others = row["ours"], {"gdb": row["gdb"] or [], "eu-stack": row["eu"] or []}
    for who, other in others.items():
        if is_same(ours, other):
            return who
    for who, other in others.items():
        code = list(itertools.takewhile(lambda pc: any(a <= pc < b for a, b in row["code"]), other))
        if row["stop"] == "" and is_same(ours, code):
            return f"{who}, past the root"
        if is_same(ours[:len(code)], code) and any(in_function(file, SWITCHES, pc) for pc in code[-2:]):
            return f"{who}, to the scheduler's stack"
    return "different"


def stop_and_compare(build_folder, out, name):
    """Stops a program some times. Returns what was seen of each thread, and how it compares."""
    # A pending signal is delivered by attaching: Go's preemption would put a handler on the stack.
    with subprocess.Popen(prepare(name, 50), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, env={**os.environ, "GODEBUG": "asyncpreemptoff=1"}) as running:
        try:
            time.sleep(0.5)  # the program itself, rather than its start
            done = subprocess.run(["gdb", "-nx", "-batch", "-x", TESTS / "accuracy/gdb_stops.py"], check=False,
                                  timeout=200, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT,
                                  env={**os.environ, "STOPS_PID": str(running.pid), "STOPS_COUNT": STOPS,
                                       "STOPS_OUT": str(out), "DEBUGINFOD_URLS": "",
                                       "STOPS_TOOL": str(build_folder / "tests/accuracy/compare_stopped")})
        finally:
            running.kill()
    rows = [json.loads(line) for line in out.read_text(encoding="ascii").splitlines()]
    assert len({row["stop_number"] for row in rows}) == int(STOPS), done.stdout.decode(errors="replace")[-3000:]
    return rows, [agreement(running.args[0], row) for row in rows]


@pytest.mark.parametrize("name", STOPPED)
def test_chains_of_live_stops_equal_gdb_or_eu_stack(build_folder, tmp_path, name, figure):
    """Some stops say nothing of one in two hundred: where one differs, as many more must all be equal."""
    for attempt in range(2):
        rows, found = stop_and_compare(build_folder, tmp_path / f"stops{attempt}.json", name)
        figure(f"{name}: {len(rows)} threads stopped: { {f: found.count(f) for f in found} }")
        different = [row for row, how in zip(rows, found) if how == "different"]
        if not different:
            break
    assert not different, "\n".join(json.dumps(row) for row in different[:3])
