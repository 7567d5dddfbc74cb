"""`record --heap` without BPF: allocations by count, what the profile says of itself, and where that ends.

The program under test is built without BPF: there nothing else is left.
"""
import json
import subprocess

import pytest

from harness import processes
from harness.messages import assert_refused
from harness.paths import ROOT, build_dir
from harness.pprof import Profile

ROUNDS = 20000
INTERVAL = 127
FREE = ["--heap-budget", "none"]


@pytest.fixture(scope="module", name="without_bpf")
def fixture_without_bpf():
    """The program built without BPF, as `make check` does; up to date already, mostly."""
    folder = build_dir() / "nobpf"
    subprocess.run(["make", "--no-print-directory", "-s", f"O={folder}", "BPF=0", "all"], cwd=ROOT, check=True,
                   timeout=600, stdout=subprocess.DEVNULL)
    return folder / "cprofiler"


def record(program, *args):
    """Runs the program; gives what it has ended with."""
    return subprocess.run([program, "record", *map(str, args)], check=False, timeout=120, capture_output=True)


def heap_of(done):
    """The heap object of the summary in JSON."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1])["heap"]


def test_calls_are_sampled_by_count(without_bpf, workload, tmp_path):
    path = tmp_path / "heap.pprof"
    heap = heap_of(record(without_bpf, "--heap", path, *FREE, "--json", "--", workload("heap-calls"), ROUNDS))
    assert heap["mode"] == "count" and heap["mechanism"] == "perf uprobes by count"
    assert heap["interval"] == INTERVAL and heap["unwatched_threads"] == 0
    assert "in_use_bytes" not in heap and heap["allocations"] >= 6 * ROUNDS
    profile = Profile(path)
    assert profile.types == [("alloc_objects", "count"), ("alloc_space", "bytes")]
    assert any("by count, without BPF" in comment for comment in profile.comments), profile.comments
    objects, space = profile.cum("alloc_objects"), profile.cum("alloc_space")
    # One call in 127 of each function of the allocator: a function's share is off by a few of them. On a busy
    # machine samples may be lost, or come so fast that they are thinned out.
    step = heap["last_interval"]
    slack = heap["lost"] * step
    for name, size in (("malloc_100", 100), ("malloc_10000", 10000), ("calloc_500", 500)):
        assert abs(objects[name] - ROUNDS) <= 8 * step + slack, (name, objects[name], heap)
        assert space[name] == objects[name] * size
    # realloc(NULL, n), which is passed on to malloc, counts once.
    assert abs(profile.total("alloc_objects") - 6 * ROUNDS) <= 20 * step + slack


def test_the_summary_says_what_is_not_known(without_bpf, workload, tmp_path):
    done = record(without_bpf, "--heap", tmp_path / "heap.pprof", *FREE, "--", workload("heap-calls"), 2000)
    assert done.returncode == 0, done.stderr
    assert b"biased: without BPF" in done.stderr and b"nothing is known to be in use" in done.stderr
    assert b"allocated top" in done.stderr and b"in use:" not in done.stderr


def test_a_process_with_many_threads_is_refused(without_bpf, workload, tmp_path):
    path = tmp_path / "heap.pprof"
    pipe = subprocess.PIPE
    with processes.running([str(workload("heap-pairs")), "20"], stdin=pipe, stdout=pipe) as target:
        assert target.stdout.readline() == b"ready\n"
        done = record(without_bpf, "--heap", path, *FREE, "-p", target.pid, "-d", 1)
    assert_refused(done, "without BPF no more than 16 threads can be watched", "--heap-mode growth")
    assert not path.exists()
