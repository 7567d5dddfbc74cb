"""The benchmark runs, in small, and its readers of other profilers' output read it right. No figure is judged here."""
import json
import os
import subprocess
import sys

import pytest

from harness.paths import ROOT, TESTS, build_dir, find_perf

sys.path.insert(0, str(TESTS / "bench"))

import goals  # noqa: E402
import naming  # noqa: E402
import stacks  # noqa: E402

PERF = """sqlite3  4711\x20
\tffffffff81234567 hrtimer_interrupt ([kernel.kallsyms])
\t          12345 sqlite3VdbeExec+0x15 (/usr/lib/libsqlite3.so.0.8.6 (deleted))
\t          22222 main+0x1 (/nowhere/app)
\t          33333 _start+0x20 (/nowhere/app)

pool worker  4712\x20
\t          12345 operator()(int) const+0x5 (/nowhere/app)
\t    7f0000012345 [unknown] (/nowhere/lib.so)

perf-exec  4711\x20
\tffffffff81234567 begin_new_exec ([kernel.kallsyms])

sqlite3  4711\x20
\tffffffff81234567 do_exit ([kernel.kallsyms])

node  4713\x20
\t        1234 v8::Run(void)+0x5 (/nowhere/node)
\t        1000 clone3+0x31 (/nowhere/libc.so.6)
"""


def test_perf_script_is_judged_by_the_thread_s_entry():
    judged = stacks.judge_perf(PERF.splitlines())
    assert (judged.samples, judged.kernel_only, judged.complete) == (4, 1, 2)
    assert judged.share == pytest.approx(2 / 3)


def test_a_start_without_a_name_is_known_by_its_place():
    path = os.path.realpath("/usr/bin/python3")
    (start, limit), *_ = stacks.root_ranges(path)
    assert stacks.is_root("[unknown]", path, start) and stacks.is_root("", path, limit - 1)
    assert not stacks.is_root("[unknown]", path, limit)
    assert stacks.is_root("[unknown]", path, 0x7f0000000000 + (start & 0xfff) + 0x5000)


def test_folded_lines_and_gdb_are_judged():
    judged = stacks.judge_folded("app;_start;main;work 7\napp;main;work 2\napp;do_exit_[k] 1\nnonsense\n")
    assert (judged.samples, judged.kernel_only, judged.complete) == (10, 1, 7)
    judged = stacks.judge_gdb('Thread 2 (Thread 0x1 (LWP 3) "a"):\n#0  0x01 in f ()\n#1  0x02 in clone3 ()\n\n'
                              'Thread 1 (Thread 0x2 (LWP 2) "b"):\n#0  g (x=1) at g.c:3\n#1  0x03 in ?? ()\n')
    assert (judged.samples, judged.complete) == (2, 1)


def test_samply_s_file_is_judged(tmp_path):
    start = stacks.root_ranges(os.path.realpath("/usr/bin/python3"))[0][0]
    profile = {
        "meta": {"categories": [{"name": "User"}, {"name": "Kernel"}]},
        "libs": [{"path": os.path.realpath("/usr/bin/python3")}],
        "threads": [{
            "name": "python3",
            "samples": {"length": 4, "stack": [1, 0, 2, None], "weight": [5, 3, 1, 1]},
            "stackTable": {"frame": [0, 1, 2], "prefix": [None, 0, None]},
            "frameTable": {"category": [0, 0, 1], "func": [0, 0, 0], "address": [address_of(start), 0x100, 0x200]},
            "funcTable": {"resource": [0]}, "resourceTable": {"lib": [0]},
        }, {"name": "perf-exec", "samples": {"length": 1, "stack": [0]}}],
    }
    (tmp_path / "p.json").write_text(json.dumps(profile), encoding="ascii")
    judged = stacks.judge_samply(tmp_path / "p.json")
    assert (judged.samples, judged.kernel_only, judged.complete) == (9, 1, 8)


def address_of(offset):
    """Offset in python3's file -> address relative to its first segment, as samply has it."""
    found = stacks.elf.segments(os.path.realpath("/usr/bin/python3"))
    base = min(address & ~0xfff for _, address, _ in found)
    return next(address + offset - off for off, address, size in found if off <= offset < off + size) - base


def test_targets_are_never_met_by_what_was_not_measured():
    rows = goals.judge({})
    assert rows and all((row["figure"], row["verdict"]) == ("not measured", "-") for row in rows)
    row = goals.at_most("x", {"a": 0.5, "b": 1.5, "c": 0.7}, 1)
    assert row["verdict"] == "met on 2 of 3" and "1.500 (b)" in row["figure"]
    assert goals.within("x", {"a": 0.97}, 0.02)["verdict"] == "missed"


def test_heap_goals_compare_the_same_load():
    row = {"cprofiler -p": {"added": 1000, "paced": 1200, "detach_s": 0.1}, "perf uprobe -p": {"added": 700, "paced": 2400}}
    many = {"cprofiler -p": {"added": 1500, "paced": 1500, "detach_s": 2.0}}
    rows = list(goals.heap_goals({"heap": {"table": {"pairs": {1: row, "64": many}, "sites": {"ratio": 0.03}}}}))
    assert [(r["figure"], r["verdict"]) for r in rows] == [("0.500", "met"), ("1.500", "missed"), ("2.000", "missed"),
                                                           ("0.030", "met")]


def test_perf_names_the_addresses_of_a_written_perf_data(tmp_path, workload):
    if not find_perf():
        pytest.skip("perf is not installed (apt-get install linux-perf)")
    path = str(workload("shares"))
    address, _ = stacks.elf.symbols(path)["burn_sixty"]
    (tmp_path / "data").write_bytes(naming.perf_data(path, [address + 4]))
    done = subprocess.run([find_perf(), "script", "--no-inline", "-F", "ip,sym", "-i", tmp_path / "data"], check=True,
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert "burn_sixty" in done.stdout, done.stderr


def test_the_whole_command_in_small(tmp_path):
    (tmp_path / "tests").symlink_to(build_dir() / "tests")
    (tmp_path / "workloads").symlink_to(build_dir() / "workloads")
    environment = {**os.environ, "O": str(tmp_path), "CPROFILER": str(build_dir() / "cprofiler"), "BENCH_SECONDS": "0.6",
                   "BENCH_ROUNDS": "1", "BENCH_TARGETS": "pingpong|threads200", "BENCH_RECORDERS": "perf 32K"}
    done = subprocess.run(["/usr/bin/python3", "-B", TESTS / "bench" / "bench.py", "start", "programs"], check=False,
                          text=True, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr, done.stderr
    figures = json.loads((tmp_path / "bench" / "bench.json").read_text(encoding="utf-8"))
    assert set(figures["programs"]["table"]) == {"pingpong", "threads200"}
    for row in figures["programs"]["table"].values():
        for name in ("cprofiler", "perf 32K"):
            assert all(row[name][column] is not None for column in ("cpu", "wall", "rec", "rss", "disk", "file"))
    assert figures["start"]["table"].keys() == {"cprofiler", "perf 32K"}
    assert any(row["verdict"] != "-" for row in figures["goals"])
    assert done.stdout == (tmp_path / "bench" / "bench.txt").read_text(encoding="utf-8")
