"""record -a, -t, -C, --cgroup and several -p: what goes together, what is refused, what is told."""
import json
import os
import resource
import shutil
import subprocess
import time

import pytest

from harness import cgroups, processes
from harness.messages import assert_refused
from harness.pprof import Profile
from harness.recording import record


@pytest.fixture
def busy(workload):
    """A process with two worker threads that burn for a minute."""
    with processes.running([workload("threads"), "2", "100"], stdout=subprocess.DEVNULL) as target:
        assert processes.wait_until(lambda: len(processes.threads(target.pid)) == 3)
        yield target


@pytest.mark.parametrize("args, word", [
    (["-a", "-p", "1"], "-p"),
    (["-a", "-t", "1"], "-t"),
    (["-a", "--cgroup", "x"], "--cgroup"),
    (["-p", "1", "-t", "1"], "-t"),
    (["-p", "1", "--cgroup", "x"], "--cgroup"),
    (["-t", "1", "--", "true"], "-t"),
    (["-p", "1", "--", "true"], "-p"),
    (["-a", "--engine", "per-task", "-d", "1"], "cpu-wide"),
    (["--cgroup", "x", "--engine", "per-task"], "cpu-wide"),
    (["-a", "--no-children"], "--no-children"),
    (["--cgroup", "x", "--children"], "--children"),
    (["-C", "0"], "nothing to record"),
    (["-C", "0-", "--", "true"], "0-"),
    (["-C", "", "--", "true"], "--cpu"),
    (["-t", "12x"], "12x"),
    (["-t", f"{os.getpid()},,2"], "empty"),
    (["-t", "0"], "'0'"),
    (["-p", "1,"], "-p"),
])
def test_what_makes_no_sense_is_a_usage_error(cprofiler, tmp_path, args, word):
    done = cprofiler("record", "-o", tmp_path / "p", *args)
    assert_refused(done, word, status=2)
    assert not list(tmp_path.iterdir())


def test_cpus_that_are_not_there(cprofiler, tmp_path):
    for cpus in ("65535", "0,4000-4001"):
        done = cprofiler("record", "-o", tmp_path / "p", "-C", cpus, "--", "true")
        assert_refused(done, "there is no CPU", status=1)
        assert b"online are: " in done.stderr


def test_threads_that_are_not_there(cprofiler, tmp_path):
    assert_refused(cprofiler("record", "-o", tmp_path / "p", "-t", "2147483647"), "2147483647", status=1)
    assert_refused(cprofiler("record", "-o", tmp_path / "p", "-t", "99999999999999"), "99999999999999",
                   status=2)


@pytest.mark.parametrize("name", ["no-such-group-xq", "/no-such-group-xq", "/tmp"])
def test_cgroups_that_are_not_there(cprofiler, tmp_path, name):
    done = cprofiler("record", "-o", tmp_path / "p", "--cgroup", name)
    assert_refused(done, name if cgroups.mount() else "cgroup", status=1)
    assert not list(tmp_path.iterdir())


def test_whole_system_has_its_own_file_name_and_summary(cprofiler, busy, tmp_path):
    done = cprofiler("record", "-a", "-d", "0.5", cwd=tmp_path, check=True)
    assert [p.name for p in tmp_path.iterdir()] == ["cprofiler.system.cpu.pprof"]
    assert b", whole system, " in done.stderr and b"engine perf (cpu-wide)" in done.stderr
    profile = Profile(tmp_path / "cprofiler.system.cpu.pprof")
    assert busy.pid in {s.labels["pid"] for s in profile.samples}
    assert all(s.labels["comm"] for s in profile.samples)


def test_whole_system_ends_with_the_command_and_as_it(cprofiler, tmp_path):
    done = cprofiler("record", "-a", "-o", tmp_path / "p", f"--json={tmp_path / 'j'}", "--", "sh", "-c",
                     "sleep 0.3; exit 7", timeout=30)
    assert done.returncode == 7, done.stderr
    assert Profile(tmp_path / "p").duration_seconds >= 0.3


def test_whole_system_until_interrupted(cprofiler, busy, tmp_path):
    del busy
    recorder = cprofiler.start("record", "-a", "-o", tmp_path / "p")
    time.sleep(0.5)
    recorder.send_signal(2)
    _, errors = recorder.communicate(timeout=30)
    assert recorder.returncode == 0, errors
    assert Profile(tmp_path / "p").total() > 0


@pytest.mark.parametrize("engine", ["cpu-wide", "per-task"])
def test_summary_tells_scope_cpus_and_engine(cprofiler, workload, tmp_path, engine):
    got = record(cprofiler, tmp_path, [workload("shares"), 0.1], flags=["-C", "0", "--engine", engine])
    assert (got.summary["scope"], got.summary["cpus"]) == ("command", "0")
    assert got.summary["engine"] == f"perf ({engine})"
    assert "engine_refused" not in got.summary


def test_recording_of_several_ends_with_the_last(cprofiler, workload, tmp_path):
    with processes.running([workload("shares"), "0.3"], stdout=subprocess.DEVNULL) as short, \
         processes.running([workload("threads"), "1", "1.5"], stdout=subprocess.DEVNULL) as long:
        done = cprofiler("record", "-o", tmp_path / "p", "-d", "60", "-p", short.pid, "-p", long.pid,
                         timeout=50)
        assert done.returncode == 0, done.stderr
        assert long.wait(timeout=1) == 0
    assert {s.labels["pid"] for s in Profile(tmp_path / "p").samples} == {short.pid, long.pid}


def test_end_of_the_only_thread_ends_the_recording(cprofiler, workload, tmp_path):
    with processes.running([workload("shares"), "1"], stdout=subprocess.DEVNULL) as target:
        done = cprofiler("record", "-o", tmp_path / "p", "-d", "100", "-t", target.pid, timeout=60)
    assert done.returncode == 0, done.stderr
    assert Profile(tmp_path / "p").duration_seconds < 50


@pytest.fixture
def as_nobody(cprofiler, open_dir):
    """as_nobody(*args): runs the program as uid 65534, without lockable memory."""
    program = shutil.copy(cprofiler.path, open_dir / "cprofiler")

    def prepare():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        processes.become_nobody()
    return lambda *args: subprocess.run([program, *map(str, args)], check=False, cwd=open_dir, timeout=60,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=prepare)


def test_heap_growth_needs_no_privilege(as_nobody, open_dir, workload, paranoid):
    paranoid(2)
    grown = shutil.copy(workload("grown"), open_dir / "grown")
    done = as_nobody("record", "--heap", open_dir / "g", "--heap-mode", "growth", "--no-kernel", "--", grown)
    assert done.returncode == 0, done.stderr
    assert Profile(open_dir / "g").flat("growth_space")["touch_forty_eight"] > 40 << 20


def test_little_lockable_memory_makes_small_rings_and_is_said(cprofiler, as_nobody, open_dir, workload, paranoid):
    paranoid(2)
    # At 4000 Hz a ring of 8 MB per CPU is wanted; perf_event_mlock_kb allows 516 KB.
    args = ["record", "-o", open_dir / "p", "--no-kernel", "--engine", "per-task", "-F", "4000"]
    shares = shutil.copy(workload("shares"), open_dir / "shares")
    done = as_nobody(*args, "--", shares, "0.2")
    assert done.returncode == 0, done.stderr
    assert b"rings are small" in done.stderr
    assert b"raise ulimit -l" in done.stderr
    done = cprofiler(*args, "--", shares, "0.2")
    assert done.returncode == 0 and b"rings are small" not in done.stderr


@pytest.mark.parametrize("scope", [["-a"], ["--cgroup", "/"]])
def test_whole_system_without_privileges_is_refused_with_the_remedy(as_nobody, open_dir, paranoid, scope):
    paranoid(2)
    done = as_nobody("record", *scope, "-d", "1", "-o", open_dir / "p")
    assert_refused(done, "perf_event_paranoid is 2", status=1)
    assert b"sudo" in done.stderr


def test_other_users_processes_are_counted_where_only_sampling_is_allowed(as_nobody, busy, open_dir, paranoid):
    paranoid(-1)
    done = as_nobody("record", "-a", "-d", "1", "-F", "999", "-o", open_dir / "p", f"--json={open_dir / 'j'}")
    assert done.returncode == 0, done.stderr
    summary = json.loads((open_dir / "j").read_text(encoding="utf-8"))
    assert summary["loss"]["unseen"] >= 1
    comms = {s.labels["pid"]: s.labels["comm"] for s in Profile(open_dir / "p").samples}
    assert comms[busy.pid] == "threads"


def test_summary_says_why_a_better_engine_was_refused(as_nobody, workload, open_dir, paranoid):
    paranoid(1)
    shares = shutil.copy(workload("shares"), open_dir / "shares")
    done = as_nobody("record", "-o", open_dir / "p", "--", shares, "0.1")
    assert done.returncode == 0, done.stderr
    assert b"  engine per-task, since cpu-wide is refused: CPU-wide perf events are refused: " in done.stderr
    done = as_nobody("record", "-o", open_dir / "p", f"--json={open_dir / 'j'}", "--", shares, "0.1")
    assert "perf_event_paranoid" in json.loads((open_dir / "j").read_text(encoding="utf-8"))["engine_refused"]
