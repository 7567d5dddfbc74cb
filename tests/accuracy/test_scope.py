"""Whom to sample: the whole system, threads, CPUs, cgroups; each has all that is its own and nothing else."""
import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from harness import cgroups, processes
from harness.messages import assert_refused
from harness.recording import Recording, record


def record_scope(cprofiler, folder, *flags, hz=499):
    """Records what flags say, for the time that they say. Returns a Recording."""
    file, summary = folder / "scope.pprof", folder / "scope.json"
    done = cprofiler("record", "-o", file, "-F", hz, f"--json={summary}", *flags)
    assert done.returncode == 0, done.stderr
    return Recording(done, file, summary)


def cpu_by(recording, label):
    """{label's value: ns of CPU}."""
    out = {}
    for sample in recording.profile.samples:
        out[sample.labels[label]] = out.get(sample.labels[label], 0) + sample.values["cpu"]
    return out


def thread_ns(pid, tid):
    """CPU time of a thread, ns."""
    return int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_text(encoding="ascii").split()[0])


def pinned(workload, cpu, seconds=60):
    """A running process that burns on one CPU."""
    return processes.running([workload("shares"), str(seconds)], stdout=subprocess.DEVNULL,
                             preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))


def test_whole_system_has_each_process_with_its_cpu_time(cprofiler, workload, tmp_path):
    shares = workload("shares")
    got = record(cprofiler, tmp_path, ["sh", "-c", f"{shares} 1 & {shares} 2 & wait"], hz=1999,
                 flags=["-a"])
    truths = [json.loads(line) for line in got.stdout.decode().splitlines()]
    by_pid = cpu_by(got, "pid")
    assert len(truths) == 2
    for truth in truths:
        ratio = by_pid[truth["pid"]] / truth["cpu_ns"]
        print(f"process of {truth['cpu_ns'] / 1e9:.2f} s: {ratio:.3f}")
        assert ratio == pytest.approx(1, abs=0.1)  # 5 sigma at a tenth of a CPU
    ours = [s for s in got.profile.samples if s.labels["pid"] in {t["pid"] for t in truths}]
    assert {s.labels["comm"] for s in ours} <= {"shares", "sh"}
    burning = sum(s.values["cpu"] for s in ours if {"burn_all", "main"} <= set(s.names))
    assert burning > 0.9 * sum(s.values["cpu"] for s in ours)
    assert got.summary["scope"] == "system"
    assert 0 not in by_pid, "idling was counted"


def test_whole_system_names_processes_that_exec_and_end_at_once(cprofiler, workload, tmp_path):
    loop = f"for i in $(seq 40); do {workload('shares')} 0.03; done"
    got = record(cprofiler, tmp_path, ["sh", "-c", loop], hz=999, flags=["-a"])
    pids = {t["pid"]: t["cpu_ns"] for t in map(json.loads, got.stdout.decode().splitlines())}
    ours = [s for s in got.profile.samples if s.labels["pid"] in pids and "burn_all" in s.names]
    found = sum(s.values["cpu"] for s in ours)
    print(f"in burn_all of {len(pids)} processes: {found / sum(pids.values()):.3f} of their CPU time")
    assert {s.labels["comm"] for s in ours} == {"shares"}
    assert found > 0.75 * sum(pids.values())
    assert len({s.labels["pid"] for s in ours}) >= 33


@pytest.mark.parametrize("engine", ["cpu-wide", "per-task"])
def test_one_thread_alone(cprofiler, workload, tmp_path, engine):
    with processes.running([workload("threads"), "3", "200"], stdout=subprocess.DEVNULL) as target:
        assert processes.wait_until(lambda: len(processes.threads(target.pid)) == 4)
        tid = processes.threads(target.pid)[2]
        before = thread_ns(target.pid, tid)
        got = record_scope(cprofiler, tmp_path, "-t", tid, "-d", 2, "--engine", engine)
        spent = thread_ns(target.pid, tid) - before
    by_thread = cpu_by(got, "thread_id")
    assert set(by_thread) == {tid}
    assert {s.labels["pid"] for s in got.profile.samples} == {target.pid}
    print(f"{by_thread[tid] / 1e9:.3f} s, due {got.summary['due_cpu_seconds']:.3f}, outside {spent / 1e9:.3f}")
    assert by_thread[tid] / 1e9 == pytest.approx(got.summary["due_cpu_seconds"], rel=0.25, abs=0.1)
    assert by_thread[tid] <= 1.25 * spent + 1e8


@pytest.mark.parametrize("engine", ["cpu-wide", "per-task"])
@pytest.mark.parametrize("children", [False, True])
def test_children_of_a_thread_only_when_asked_for(cprofiler, workload, tmp_path, engine, children):
    with processes.running([workload("forks"), "2000", "30"], stdout=subprocess.DEVNULL) as target:
        got = record_scope(cprofiler, tmp_path, "-t", target.pid, "-d", 1, "--engine", engine,
                           *(["--children"] if children else []))
    pids = {s.labels["pid"] for s in got.profile.samples}
    assert bool(pids - {target.pid}) is children


@pytest.mark.parametrize("engine", ["cpu-wide", "per-task"])
def test_only_the_chosen_cpu(cprofiler, workload, tmp_path, engine):
    cpus = sorted(os.sched_getaffinity(0))
    with pinned(workload, cpus[0]) as first, pinned(workload, cpus[-1]) as last:
        got = record_scope(cprofiler, tmp_path, "-p", f"{first.pid},{last.pid}", "-C", cpus[-1], "-d", 1,
                           "--engine", engine)
    want = {last.pid} if len(cpus) > 1 else {first.pid, last.pid}
    assert set(cpu_by(got, "pid")) == want
    assert got.summary["cpus"] == str(cpus[-1])


def test_whole_system_on_the_chosen_cpu(cprofiler, workload, tmp_path):
    cpus = sorted(os.sched_getaffinity(0))
    with pinned(workload, cpus[0]) as first, pinned(workload, cpus[-1]) as last:
        got = record_scope(cprofiler, tmp_path, "-a", "-C", cpus[0], "-d", 1)
    by_pid = cpu_by(got, "pid")
    assert by_pid[first.pid] > 0
    assert last.pid not in by_pid or len(cpus) == 1
    assert got.profile.total() / 1e9 <= 1.05 * got.profile.duration_seconds


def test_cgroup_has_its_members_alone_with_those_that_join(cprofiler, workload, tmp_path):
    with contextlib.ExitStack() as stack:
        groups = stack.enter_context(cgroups.group(f"cprofiler-test-{os.getpid()}"))
        if not groups:
            done = cprofiler("record", "-o", tmp_path / "p", "--cgroup", "cprofiler-test")
            assert_refused(done, "cgroup", status=1)
            return

        def start(folder, *command):
            return stack.enter_context(processes.running(
                command, stdout=subprocess.DEVNULL,
                preexec_fn=lambda: folder and cgroups.join(folder)))
        shares, forks = workload("shares"), workload("forks")
        member, nested = start(groups[0], shares, "60"), start(groups[1], shares, "60")
        stranger, late = start(None, shares, "60"), start(None, shares, "60")
        parent = start(groups[0], forks, "2000", "20")
        mover = start(None, "sh", "-c", f"sleep 0.7; echo {late.pid} > {groups[0]}/cgroup.procs; exec sleep 9")
        got = record_scope(cprofiler, tmp_path, "--cgroup", groups[0].name, "-d", 3, hz=999)
        by_pid = cpu_by(got, "pid")
        assert min(by_pid.get(p.pid, 0) for p in (member, nested, late)) > 0, by_pid
        assert stranger.pid not in by_pid and mover.pid not in by_pid
        comms = {s.labels["comm"] for s in got.profile.samples}  # a child may end before it was looked at
        assert {c for c in comms if not c.startswith(("[pid ", "[no pid"))} == {"shares", "forks"}
        assert got.summary["loss"]["unseen"] <= 20  # of 2000
        assert len(by_pid) >= 3 + 2, "the children of a member are missing"
        assert parent.poll() is None
        ratio = got.profile.total() / 1e9 / got.summary["due_cpu_seconds"]
        print(f"samples taken of those due: {ratio:.3f}")
        assert ratio == pytest.approx(1, abs=0.03)
        assert got.summary["cgroup"] == str(groups[0])
