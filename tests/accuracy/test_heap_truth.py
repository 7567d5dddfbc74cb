"""Heap profiles against programs that know what they have allocated and what is in use, function by function.

All limits are five standard deviations of the estimate, or wider: the sampling is random, and one of these tests may
not fail by chance. Standard deviations are computed from the samples (harness.heap.Estimate). HEAP_RECORDINGS (2) in the
environment: how many are pooled; with 20, a bias of 2 % shows.
"""
import os
import subprocess

import pytest

from harness import heap
from harness.heap import RATE_BYTES
from harness.recording import ShareMiss

HEAP = ["--heap-budget", "none", "--heap-rate", RATE_BYTES]
SIGMAS = 5
RECORDINGS = int(os.environ.get("HEAP_RECORDINGS", "2"))


class Taken:
    """What one recording of a program that knows says, and what the program says."""

    def __init__(self, file, answer):
        self.file, self.answer = file, answer
        self.profile, self.summary = heap.Profile(file), heap.read_json(f"{file}.json")

    def estimates(self, kind, where=None):
        return heap.estimates(self.profile, kind, where)

    def truth(self, member):
        """{function: sum}, and "" for all."""
        out = {name: row[member] for name, row in self.answer["functions"].items()}
        return {"": sum(out.values()), **out}


def launch(cprofiler, folder, name, rounds, commands=("go",), allocator="glibc"):
    """Records a program from its start, until it has done what it was told. Returns what was Taken."""
    file = folder / f"{name}.pprof"
    with heap.recorder(cprofiler, file, *HEAP, "--", *heap.truth_command(name, rounds), stdin=subprocess.PIPE,
                       stdout=subprocess.PIPE, environment=heap.preload(allocator)) as recorder:
        talker = heap.Talker(recorder.process)
        answers = [talker.ask(text) for text in commands]
        recorder.process.stdin.close()  # the command ends, and with it the recording
        recorder.finish()
    return Taken(file, answers[-1])


def attach(cprofiler, folder, name, rounds, commands=("go",), allocator="glibc"):
    """Attaches to a program, lets it do what it is told, ends the recording. Returns what was Taken."""
    file = folder / f"{name}.pprof"
    with heap.talking(heap.truth_command(name, rounds), heap.preload(allocator)) as talker:
        with heap.attached(cprofiler, file, talker.process.pid, *HEAP) as recorder:
            answers = [talker.ask(text) for text in commands]
            recorder.end()
    return Taken(file, answers[-1])


def assert_near(estimates, truths, what):
    """Each estimate is the truth within SIGMAS standard deviations."""
    for name, truth in truths.items():
        estimate = estimates.get(name, heap.Estimate())
        assert abs(estimate.off_by(truth)) <= SIGMAS, \
            f"{what} of {name or 'all'}: {estimate.value:.0f} +- {estimate.sigma:.0f}, in truth {truth}"


def assert_true(taken):
    """In use and allocated, of each function and of all, are what the program says."""
    if taken.summary["heap"]["lost"]:
        raise ShareMiss(f"{taken.summary['heap']['lost']} samples found no room: the machine was too busy")
    functions = set(taken.answer["functions"])
    ours = lambda sample: functions & set(sample.names)  # noqa: E731  not what the C library keeps for itself
    assert_near(taken.estimates("inuse", ours), taken.truth("live_bytes"), "bytes in use")
    assert_near(taken.estimates("alloc", ours), taken.truth("alloc_bytes"), "bytes allocated")


# --- the figures of the targets ------------------------------------------------------------------

class Pool:
    """Sums over recordings: what was estimated, and the truth."""

    def __init__(self):
        self.estimate, self.truth = heap.Estimate(), 0

    def add(self, estimate, truth):
        self.estimate.join(estimate)
        self.truth += truth

    @property
    def bias(self):
        return self.estimate.value / self.truth - 1

    @property
    def sigma(self):
        return self.estimate.sigma / self.truth


@pytest.mark.limit(300 + 20 * RECORDINGS)
@pytest.mark.parametrize("start", [launch, attach])
def test_the_estimate_is_unbiased(cprofiler, tmp_path, figure, start):
    """Twenty rounds in each recording, each an estimate of its own; and each function, over all of them."""
    off, pools = [], {}
    for _ in range(RECORDINGS):
        taken = start(cprofiler, tmp_path, "heap-truth", 20)
        assert_true(taken)
        in_use, allocated = taken.estimates("inuse"), taken.estimates("alloc")
        off += [in_use[name].off_by(truth) for name, truth in taken.answer["rounds"].items()]
        for kind, found, truths in (("in use", in_use, taken.truth("live_bytes")),
                                    ("allocated", allocated, taken.truth("alloc_bytes"))):
            for name, truth in truths.items():
                if name and truth:
                    pools.setdefault((kind, name), Pool()).add(found[name], truth)
                    pools.setdefault((kind, ""), Pool()).add(found[name], truth)
    total = pools["in use", ""]
    figure(f"heap, {len(off)} rounds, {start.__name__}: in use {total.bias:+.2%} (sigma {total.sigma:.2%}), allocated "
           f"{pools['allocated', ''].bias:+.2%}; {sum(abs(o) > 3 for o in off)} rounds beyond 3 sigma, worst "
           f"{max(off, key=abs):+.1f}")
    assert len(off) == 20 * RECORDINGS
    assert max(map(abs, off)) <= SIGMAS, off
    assert sum(abs(o) > 3 for o in off) <= 3 + RECORDINGS, off  # due: 0.05 of each 20
    assert total.sigma < 0.03
    assert abs(total.bias) <= max(0.02, SIGMAS * total.sigma)
    for (kind, name), pool in pools.items():
        if pool.truth > 0.05 * pools[kind, ""].truth:
            assert abs(pool.bias) <= max(0.15, SIGMAS * pool.sigma), (kind, name, pool.bias, pool.sigma)


@pytest.mark.parametrize("start", [launch, attach])
@pytest.mark.parametrize("allocator", ["jemalloc", "tcmalloc", "mimalloc"])
def test_other_allocators(cprofiler, tmp_path, allocator, start):
    assert_true(start(cprofiler, tmp_path, "heap-truth", 3, allocator=allocator))


@pytest.mark.parametrize("name", ["heap-truth-static", "heap-truth-musl", "heap-truth-musl-static"])
@pytest.mark.parametrize("start", [launch, attach])
def test_musl_and_static_programs(cprofiler, tmp_path, name, start):
    assert_true(start(cprofiler, tmp_path, name, 3))


@pytest.mark.parametrize("allocator", list(heap.ALLOCATORS))
def test_new_and_delete(cprofiler, tmp_path, allocator):
    assert_true(launch(cprofiler, tmp_path, "heap-new", 3, allocator=allocator))


@pytest.mark.parametrize("allocator", ["glibc", "jemalloc"])
def test_what_is_freed_is_not_in_use(cprofiler, tmp_path, allocator):
    taken = attach(cprofiler, tmp_path, "heap-truth", 3, ["go", "free"], allocator=allocator)
    assert taken.truth("live_bytes")[""] == 0
    left = {name: e.value for name, e in taken.estimates("inuse").items() if name in taken.answer["functions"]}
    assert not left
    assert_near(taken.estimates("alloc"), {n: v for n, v in taken.truth("alloc_bytes").items() if n}, "bytes allocated")


def test_calls_and_bytes_are_counted_exactly(cprofiler, tmp_path):
    taken = attach(cprofiler, tmp_path, "heap-truth", 4)
    counted, known = taken.summary["heap"]["allocations"], taken.truth("num_allocs")[""]
    assert known <= counted <= known + 4 * 16, "pthread_create() allocates, too"
    counted, known = taken.summary["heap"]["allocated_bytes"], taken.truth("alloc_bytes")[""]
    assert known <= counted <= known + 4 * 4096


# --- processes -----------------------------------------------------------------------------------

def of_process(pid):
    """Which samples are of a process."""
    return lambda sample: sample.labels["pid"] == pid


def assert_true_of(taken, pid):
    """What a process's own samples say is what it says itself."""
    for kind, member in (("inuse", "live_bytes"), ("alloc", "alloc_bytes")):
        truth = {name: value for name, value in taken.truth(member).items() if name}
        assert_near(taken.estimates(kind, of_process(pid)), truth, kind)


def test_a_child_is_a_process_of_its_own(cprofiler, tmp_path):
    file = tmp_path / "fork.pprof"
    with heap.talking(heap.truth_command("heap-truth", 2)) as talker:
        parent = talker.process.pid
        with heap.attached(cprofiler, file, parent, *HEAP) as recorder:
            of_parent = talker.ask("go")
            child = talker.ask("fork")["pid"]
            recorder.wait_until_probed(child)
            of_child = talker.ask("go")
            recorder.end()
    assert of_child["pid"] == child != parent
    assert_true_of(Taken(file, of_parent), parent)
    assert_true_of(Taken(file, of_child), child)


def test_two_processes_at_once(cprofiler, tmp_path):
    """At a breakpoint that is of two processes, the kernel catches the returns of both, always."""
    file = tmp_path / "two.pprof"
    with heap.talking(heap.truth_command("heap-truth", 2)) as one, heap.talking(heap.truth_command("heap-truth", 2)) as two:
        pids = [talker.process.pid for talker in (one, two)]
        with heap.attached(cprofiler, file, ",".join(map(str, pids)), *HEAP) as recorder:
            answers = [talker.ask("go") for talker in (one, two)]
            recorder.end()
    for pid, answer in zip(pids, answers):
        taken = Taken(file, answer)
        assert_true_of(taken, pid)
        assert taken.summary["complete_share"] == 1


def test_what_a_process_held_when_it_ended(cprofiler, tmp_path):
    """That of a process which was named is what it had in use at its end; a child's is gone."""
    file = tmp_path / "fork.pprof"
    with heap.talking(heap.truth_command("heap-truth", 2)) as talker:
        parent = talker.process.pid
        with heap.attached(cprofiler, file, parent, *HEAP) as recorder:
            of_parent = talker.ask("go")
            child = talker.ask("fork")["pid"]
            recorder.wait_until_probed(child)
            talker.ask("go")
            talker.process.stdin.close()
            assert talker.process.wait(timeout=20) == 0
            recorder.finish()
    taken = Taken(file, of_parent)
    assert_true_of(taken, parent)
    assert not taken.estimates("inuse", of_process(child))[""].value
    assert taken.estimates("alloc", of_process(child))[""].value > 0
