"""Heap profiling puts breakpoints into the target's code, and takes them out: whatever happens, no target dies of it,
computes anything else, or keeps any of them. HEAP_KILLS (12) and HEAP_CYCLES (6) in the environment: how often, for a
longer look; HEAP_SEED: the random moments of an earlier run.
"""
import os
import random
import signal
import time

import pytest

from harness import heap, processes

KILLS = int(os.environ.get("HEAP_KILLS", "12"))
CYCLES = int(os.environ.get("HEAP_CYCLES", "6"))
SEED = int(os.environ.get("HEAP_SEED", str(random.SystemRandom().randrange(1 << 32))))
LONG = pytest.mark.limit(300 + 4 * (KILLS + CYCLES))


HEAP = ["--heap-budget", "none", "--heap-rate", "65536"]  # these targets do nothing but allocate


def start(cprofiler, folder, pid, *flags):
    """A recorder of a running process, just started: a context that gives the heap.Recorder."""
    return heap.recorder(cprofiler, folder / "h.pprof", *HEAP, *flags, "-p", pid)


def attached(cprofiler, folder, pid):
    """One that has begun to sample."""
    return heap.attached(cprofiler, folder / "h.pprof", pid, *HEAP)


def assert_unharmed(process, shared):
    """The target has its own code again, runs, and does so undisturbed to its good end."""
    assert heap.wait_until_clean(process.pid), f"breakpoints are left: {heap.changed_code(process.pid)[:20]}"
    assert process.poll() is None and shared.moves()
    assert processes.status_field(process.pid, "TracerPid") == "0"


def assert_ends_well(process, shared):
    """It ends by itself with no wrong byte seen."""
    shared.ask_to_stop()
    assert process.wait(timeout=60) == 0
    assert shared.num_wrong == 0 and shared.num_bad_children == 0


# --- killed without warning ------------------------------------------------------------------------

@LONG
@pytest.mark.parametrize("kind", ["plain", "forks", "without_bpf"])
def test_target_survives_sigkill_of_the_profiler_at_any_moment(request, tmp_path, kind):
    chance = random.Random(SEED)
    print(f"HEAP_SEED={SEED}")
    cprofiler = request.getfixturevalue("without_bpf" if kind == "without_bpf" else "cprofiler")
    with heap.churning(tmp_path / "shared", 4, "forks" if kind == "forks" else "plain") as (process, shared):
        for number in range(KILLS):
            with start(cprofiler, tmp_path, process.pid) as recorder:
                if number % 3 == 2:  # while it detaches
                    recorder.wait_until_recording()
                    recorder.process.send_signal(signal.SIGINT)
                    time.sleep(chance.uniform(0, 0.3))
                else:
                    time.sleep(chance.uniform(0, 0.1) if number % 3 else chance.uniform(0, 0.8))
            assert_unharmed(process, shared)
        assert_ends_well(process, shared)


@LONG
def test_launched_command_survives_sigkill_of_the_profiler(cprofiler, tmp_path):
    chance = random.Random(SEED)
    print(f"HEAP_SEED={SEED}")
    for number in range(max(3, KILLS // 4)):
        file = tmp_path / f"shared{number}"
        file.write_bytes(bytes(heap.Shared.BYTES))
        shared = heap.Shared(file)
        with heap.recorder(cprofiler, tmp_path / "h.pprof", *HEAP, "--", heap.workloads.build("heap-churn"), file,
                           "2") as recorder:
            time.sleep(chance.uniform(0, 0.6))
            started = [pid for pid in processes.children(recorder.process.pid) if processes.runs(pid, "heap-churn")]
        try:
            assert all(heap.wait_until_clean(pid) for pid in started)
            assert not started or shared.moves()
        finally:
            shared.ask_to_stop()
        assert all(processes.wait_until(lambda p=pid: processes.state(p) in (None, "Z"), 30) for pid in started)
        assert shared.num_wrong == 0


# --- attach and detach ---------------------------------------------------------------------------

@LONG
@pytest.mark.parametrize("kind", ["plain", "forks"])
def test_attach_and_detach_again_and_again(cprofiler, tmp_path, kind):
    with heap.churning(tmp_path / "shared", 4, kind) as (process, shared):
        for _ in range(CYCLES):
            with attached(cprofiler, tmp_path, process.pid) as recorder:
                assert shared.moves()
                recorder.end()
                assert heap.is_clean(process.pid), "the end of the recorder is the end of its breakpoints"
            assert_unharmed(process, shared)
            assert heap.Profile(tmp_path / "h.pprof").total("alloc_space") > 0
        assert_ends_well(process, shared)


def test_64_threads_are_let_go_soon(cprofiler, tmp_path, figure):
    with heap.churning(tmp_path / "shared", 64) as (process, shared):
        with attached(cprofiler, tmp_path, process.pid) as recorder:
            assert shared.moves()
            began = time.monotonic()
            recorder.process.send_signal(signal.SIGINT)
            assert heap.wait_until_clean(process.pid)
            seconds = time.monotonic() - began
            recorder.finish()
        figure(f"heap: {seconds:.2f} s from SIGINT until 64 threads that allocate have their own code again")
        assert seconds < 30  # below 1 on a machine that has CPU for us: `make bench` tells
        assert_unharmed(process, shared)
        assert_ends_well(process, shared)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_recording_and_keeps_it(cprofiler, tmp_path, name):
    with heap.churning(tmp_path / "shared", 2) as (process, shared):
        with attached(cprofiler, tmp_path, process.pid) as recorder:
            assert shared.moves()
            recorder.end(getattr(signal, name))
        assert heap.Profile(tmp_path / "h.pprof").total("alloc_space") > 0
        assert_unharmed(process, shared)
        assert_ends_well(process, shared)


# --- targets that are hard to treat well ---------------------------------------------------------

def test_a_target_that_may_do_almost_nothing(cprofiler, tmp_path):
    """A return that is caught takes a system call of the kernel's own making; a strict filter must not see it."""
    with heap.churning(tmp_path / "shared", 3, "seccomp") as (process, shared):
        for _ in range(2):
            with attached(cprofiler, tmp_path, process.pid) as recorder:
                assert shared.moves()
                recorder.end()
            assert_unharmed(process, shared)
            assert heap.Profile(tmp_path / "h.pprof").total("alloc_space") > 0
        assert_ends_well(process, shared)


@pytest.mark.parametrize("is_killed", [False, True])
def test_target_ends_while_it_is_recorded(cprofiler, tmp_path, is_killed):
    with heap.churning(tmp_path / "shared", 4) as (process, shared):
        with attached(cprofiler, tmp_path, process.pid) as recorder:
            assert shared.moves()
            if is_killed:
                process.kill()
            else:
                assert_ends_well(process, shared)
            recorder.finish()
    assert heap.Profile(tmp_path / "h.pprof").total("alloc_space") > 0


def test_a_target_that_would_be_slowed_down_too_much_is_left_alone(cprofiler, tmp_path):
    with heap.churning(tmp_path / "shared", 2) as (process, shared):
        done = cprofiler("record", "--heap", tmp_path / "h.pprof", "-p", process.pid)
        assert done.returncode == 1 and b"the budget is 5 %" in done.stderr, done.stderr
        assert b"--heap-mode growth" in done.stderr and not (tmp_path / "h.pprof").exists()
        assert_unharmed(process, shared)
        assert_ends_well(process, shared)


def test_another_process_of_the_same_library_is_not_touched(cprofiler, tmp_path):
    with heap.churning(tmp_path / "other", 1) as (other, others), heap.churning(tmp_path / "shared", 1) as (
            process, shared):
        with attached(cprofiler, tmp_path, process.pid) as recorder:
            assert heap.changed_code(process.pid)
            assert heap.is_clean(other.pid) and others.moves()
            recorder.end()
        assert heap.is_clean(other.pid)
        assert_ends_well(process, shared)
        assert_ends_well(other, others)
