"""`record --heap` without BPF: allocations by count, what the profile says of itself, and where that ends.

The program under test is built without BPF: there nothing else is left.
"""
import json
import subprocess

from harness import processes
from harness.messages import assert_refused
from harness.pprof import Profile

ROUNDS = 20000
INTERVAL = 127
FREE = ["--heap-budget", "none"]


def heap_of(done):
    """The heap object of the summary in JSON."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1])["heap"]


def test_calls_are_sampled_by_count(without_bpf, workload, tmp_path):
    path = tmp_path / "heap.pprof"
    told = heap_of(without_bpf("record", "--heap", path, *FREE, "--json", "--", workload("heap-calls"), ROUNDS))
    assert told["mode"] == "count" and told["mechanism"] == "perf uprobes by count"
    assert told["interval"] == INTERVAL and told["unwatched_threads"] == 0
    assert "in_use_bytes" not in told and told["allocations"] >= 6 * ROUNDS
    profile = Profile(path)
    assert profile.types == [("alloc_objects", "count"), ("alloc_space", "bytes")]
    assert any("by count, without BPF" in comment for comment in profile.comments), profile.comments
    objects, space = profile.cum("alloc_objects"), profile.cum("alloc_space")
    # One call in 127 of each function of the allocator: a function's share is off by a few of them. On a busy
    # machine samples may be lost, or come so fast that they are thinned out.
    step = told["last_interval"]
    slack = told["lost"] * step
    for name, size in (("malloc_100", 100), ("malloc_10000", 10000), ("calloc_500", 500)):
        assert abs(objects[name] - ROUNDS) <= 8 * step + slack, (name, objects[name], told)
        assert space[name] == objects[name] * size
    # realloc(NULL, n), which is passed on to malloc, counts once.
    assert abs(profile.total("alloc_objects") - 6 * ROUNDS) <= 20 * step + slack


def test_the_summary_says_what_is_not_known(without_bpf, workload, tmp_path):
    done = without_bpf("record", "--heap", tmp_path / "heap.pprof", *FREE, "--", workload("heap-calls"), 2000)
    assert done.returncode == 0, done.stderr
    assert b"biased: without BPF" in done.stderr and b"nothing is known to be in use" in done.stderr
    assert b"allocated top" in done.stderr and b"in use:" not in done.stderr


def test_a_process_with_many_threads_is_refused(without_bpf, workload, tmp_path):
    path = tmp_path / "heap.pprof"
    pipe = subprocess.PIPE
    with processes.running([str(workload("heap-pairs")), "20"], stdin=pipe, stdout=pipe) as target:
        assert target.stdout.readline() == b"ready\n"
        done = without_bpf("record", "--heap", path, *FREE, "-p", target.pid, "-d", 1)
    assert_refused(done, "without BPF no more than 16 threads can be watched", "--heap-mode growth")
    assert not path.exists()
