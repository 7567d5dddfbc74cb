"""`record --heap`: what is accepted and refused, what is in the files, what ends it, what the summary says.

How right the figures are: tests/accuracy/test_heap*.py. Here each block is so much larger than the distance between
samples that every one is sampled, and the figures are exact.
"""
import contextlib
import json
import os
import signal
import subprocess

import pytest

from harness import heap, processes
from harness.messages import assert_refused
from harness.pprof import Profile

MB = 1 << 20
TYPES = [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]
EXACT = ["--heap-rate", "2K", "--heap-budget", "none"]


class Keeper:
    """A running keeper, alone or below a recorder."""

    def __init__(self, process):
        self.process = process
        assert process.stdout.readline() == b"ready\n", process.stderr and process.stderr.read()

    def tell(self, letter):
        """Has it do something; without an answer for what does not end."""
        self.process.stdin.write(letter + b"\n")
        self.process.stdin.flush()
        assert letter == b"b" or self.process.stdout.readline() == b"done\n"

    def end(self):
        """Ends its input, waits; gives what came on stderr."""
        self.process.stdin.close()
        self.process.wait(timeout=60)
        return self.process.stderr.read().decode() if self.process.stderr else ""


@contextlib.contextmanager
def keeping(command):
    """A command that runs the keeper."""
    pipe = subprocess.PIPE
    with processes.running(map(str, command), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        yield Keeper(process)


@pytest.fixture
def keeper(workload):
    """A keeper that runs already."""
    with keeping([workload("keeper")]) as it:
        yield it


def wait_until_recording(recorder):
    """Waits until a verbose recorder of a running process samples."""
    line = b""
    while b"heap: recording" not in line:
        line = recorder.stderr.readline()
        assert line, recorder.wait(timeout=60)


# --- what is refused -----------------------------------------------------------------------------

@pytest.mark.parametrize("args, message, hint", [
    (["--heap-mode", "fast", "--heap", "x"], "no heap mode 'fast'", "probes (default), growth"),
    (["--heap-mode", "growth"], "--heap-mode needs --heap FILE", "--heap heap.pprof"),
    (["--heap-keep-allocator"], "--heap-keep-allocator needs --heap FILE", "--heap heap.pprof"),
    (["--heap", "x", "--heap-mode", "growth", "--heap-budget", "5"], "--heap-budget is for --heap-mode probes", "leave"),
    (["--heap", "x", "--heap-budget", "0"], "percent of the target's CPU time, or 'none', not '0'", "--heap-budget 5"),
    (["--heap", "x", "--heap-budget", "5x"], "not '5x'", "--heap-budget none"),
    (["--heap", "x", "--heap-rate", "17G"], "above 16G samples nothing", "--heap-rate 512K"),
    (["--heap", "x", "-F", "99"], "-F is for a CPU profile", "give -o cpu.pprof, too"),
    (["--heap", "x", "-c", "99"], "-c is for a CPU profile", "give -o cpu.pprof, too"),
    (["--heap", "x", "-a"], "-a with --heap: an allocator is probed for whole processes", "-p PID"),
    (["--heap", "x", "-C", "0"], "-C with --heap", "--heap-mode growth"),
    (["--heap", "x", "-o", "x"], "both profiles to one file", "-o cpu.pprof --heap heap.pprof"),
    (["--heap", "-"], "cannot go to standard output", "--heap heap.pprof"),
    (["-o", "y", "--heap", "x", "--heap-mode", "growth", "-e", "page-faults"], "can't be sampled together", "-c COUNT"),
])
def test_a_wrong_command_line_is_told(cprofiler, tmp_path, args, message, hint):
    done = cprofiler("record", *args, "--", "true", cwd=tmp_path)
    assert_refused(done, message, hint, status=2)
    assert not list(tmp_path.iterdir())


def test_a_program_without_a_known_allocator_is_not_started(cprofiler, workload, tmp_path):
    done = cprofiler("record", "--heap", tmp_path / "h", "--", workload("keeper-nosymbols"))
    assert_refused(done, "keeper-nosymbols: no function that allocates memory is known by name", "--heap-mode growth")
    assert done.stdout == b""


def test_a_running_program_without_a_known_allocator_is_refused(cprofiler, workload, tmp_path):
    with keeping([workload("keeper-nosymbols")]) as it:
        done = cprofiler("record", "--heap", tmp_path / "h", "-p", it.process.pid)
        assert_refused(done, f"process {it.process.pid} (keeper-nosymbol)", "--heap-mode growth")
        assert it.end() == "" and it.process.returncode == 0


def test_an_unwritable_place_is_told_before_anything_starts(cprofiler, workload, tmp_path):
    done = cprofiler("record", "--heap", tmp_path / "no" / "h", "--", workload("keeper"))
    assert done.returncode == 1 and b"no/h" in done.stderr and done.stdout == b""


# --- what is in the file -------------------------------------------------------------------------

def test_a_command_s_memory_by_function(cprofiler, workload, tmp_path):
    file = tmp_path / "h.pprof"
    with keeping(cprofiler.argv("record", "--heap", file, *EXACT, "--", workload("keeper"))) as it:
        it.tell(b"k")
        text = it.end()
        assert it.process.returncode == 0, text
    profile = Profile(file)
    assert profile.types == TYPES
    assert profile.strings[profile.proto.default_sample_type] == "inuse_space"
    assert profile.proto.period == 2048
    for kind in ("inuse_space", "alloc_space"):
        assert profile.cum(kind)["keep_first"] == 16 * MB and profile.cum(kind)["keep_more"] == 4 * MB
    assert profile.flat("inuse_objects")["keep_first"] == 128 and "malloc" not in profile.cum("inuse_space")
    kept = next(s for s in profile.samples if s.frames[0].name == "keep_more")
    assert kept.names[:2] == ["keep_more", "main"]
    assert kept.labels["bytes"] == 131072 and kept.labels["comm"] == "keeper"
    assert kept.labels["pid"] == kept.labels["thread_id"] and kept.labels["thread_name"] == "keeper"
    assert any(c.startswith("probed in ") and " malloc" in c and " free" in c for c in profile.comments)
    assert [p.name for p in tmp_path.iterdir()] == ["h.pprof"]
    assert "in use top: 16.0 MB keep_first, 4.0 MB keep_more" in text


def test_one_run_gives_both_profiles(cprofiler, workload, go_pprof, tmp_path):
    cpu, file, summary = tmp_path / "c.pprof", tmp_path / "h.pprof", tmp_path / "s.json"
    with keeping(cprofiler.argv("record", "-o", cpu, "--heap", file, *EXACT, f"--json={summary}", "--",
                                workload("keeper"))) as it:
        it.end()
    assert Profile(cpu).types[1] == ("cpu", "nanoseconds")
    assert Profile(file).flat("inuse_space")["keep_first"] == 16 * MB
    got = json.loads(summary.read_text())
    assert [f["kind"] for f in got["files"]] == ["cpu", "heap"]
    said = got["heap"]
    assert said["mode"] == "probes" and said["lost"] == 0 and said["budget_share"] is None
    assert said["in_use_bytes"] >= 16 * MB and said["allocations"] >= 128 and said["top"][0]["name"] == "keep_first"
    assert "keep_first" in go_pprof("-top", "-inuse_space", file).stdout
    assert b"keep_first" in cprofiler("report", file, check=True).stdout


def test_freed_memory_is_not_in_use(cprofiler, workload, tmp_path):
    file = tmp_path / "h.pprof"
    with keeping(cprofiler.argv("record", "--heap", file, *EXACT, "--", workload("keeper"))) as it:
        it.tell(b"f")
        it.end()
    profile = Profile(file)
    assert profile.flat("inuse_space").get("keep_first", 0) == 0
    assert profile.flat("alloc_space")["keep_first"] == 16 * MB


def test_the_allocator_s_frames_stay_when_asked_for(cprofiler, workload, tmp_path):
    file = tmp_path / "h.pprof"
    with keeping(cprofiler.argv("record", "--heap", file, "--heap-keep-allocator", *EXACT, "--",
                                workload("keeper"))) as it:
        it.end()
    kept = [s for s in Profile(file).samples if "keep_first" in s.names]
    assert kept and all("malloc" in s.names[0] and s.names[1] == "keep_first" for s in kept)


def test_an_execve_loses_nothing(cprofiler, workload, tmp_path):
    file = tmp_path / "h.pprof"
    with keeping(cprofiler.argv("record", "--heap", file, *EXACT, "--", "sh", "-c",
                                f"exec {workload('keeper')}")) as it:
        it.end()
    assert Profile(file).flat("inuse_space")["keep_first"] == 16 * MB


# --- running processes ---------------------------------------------------------------------------

def test_attach_sees_what_comes_and_leaves_nothing(cprofiler, keeper, tmp_path):
    file, summary = tmp_path / "h.pprof", tmp_path / "s.json"
    command = cprofiler.argv("record", "-v", "--heap", file, *EXACT, f"--json={summary}", "-p", keeper.process.pid)
    with processes.running(command, stderr=subprocess.PIPE) as recorder:
        wait_until_recording(recorder)
        keeper.tell(b"k")
        recorder.send_signal(signal.SIGINT)
        recorder.communicate(timeout=60)
        assert recorder.returncode == 0
    assert heap.wait_until_clean(keeper.process.pid)
    profile = Profile(file)
    flat = profile.flat("inuse_space")
    assert flat["keep_more"] == 4 * MB and flat.get("keep_first", 0) == 0
    assert set(flat) - {"keep_more"} <= set(heap.NO_CODE) | {"puts", "fgets", "_IO_file_doallocate"}
    assert json.loads(summary.read_text())["heap"]["admitted_share"] is not None
    keeper.tell(b"f")
    keeper.end()
    assert keeper.process.returncode == 0


def test_a_target_that_would_be_slowed_down_is_refused(cprofiler, keeper, tmp_path):
    keeper.tell(b"b")

    def is_refused():
        done = cprofiler("record", "--heap", tmp_path / "h", "--heap-budget", "0.01", "-d", "0.1", "-p",
                         keeper.process.pid)
        if done.returncode == 0:
            return False  # the machine was so busy that the target did not run in that tenth of a second
        assert_refused(done, "probes would slow the target down by", "the budget is 0.01 %", "--heap-mode growth")
        return True
    assert processes.wait_until(is_refused, 60)
    assert heap.wait_until_clean(keeper.process.pid) and keeper.process.poll() is None


def test_probes_over_the_budget_are_taken_away(cprofiler, workload, tmp_path):
    file, summary = tmp_path / "h.pprof", tmp_path / "s.json"
    with keeping(cprofiler.argv("record", "--heap", file, "--heap-rate", "2K", "--heap-budget", "0.01",
                                f"--json={summary}", "--", workload("keeper"))) as it:
        it.tell(b"b")
        assert processes.wait_until(summary.exists, 60)
        it.end()
        assert it.process.returncode == 0
    profile = Profile(file)
    assert json.loads(summary.read_text())["heap"]["over_budget"]
    assert any("over the budget" in c for c in profile.comments)
    assert profile.flat("inuse_space")["keep_first"] == 16 * MB


def holders_of_breakpoints(recorder):
    """The processes that hold the breakpoints of a recorder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            comm, rest = stat.read().split("(", 1)[1].rsplit(")", 1)
            if comm == "breakpoints" and int(rest.split()[1]) == recorder:
                found.append(int(pid))
    return found


def test_breakpoints_that_were_killed_are_told(cprofiler, workload, tmp_path):
    file, summary = tmp_path / "h.pprof", tmp_path / "s.json"
    with keeping(cprofiler.argv("record", "--heap", file, *EXACT, f"--json={summary}", "--",
                                workload("keeper"))) as it:
        (holder,) = holders_of_breakpoints(it.process.pid)
        os.kill(holder, signal.SIGKILL)
        assert processes.wait_until(summary.exists, 60)
        it.end()
        assert it.process.returncode == 0
    assert json.loads(summary.read_text())["heap"]["probes_lost"]
    assert any("probes lost" in c for c in Profile(file).comments)


def test_a_signal_keeps_what_was_recorded(cprofiler, workload, tmp_path):
    file = tmp_path / "h.pprof"
    with keeping(cprofiler.argv("record", "-q", "--heap", file, *EXACT, "--", workload("keeper"))) as it:
        os.kill(it.process.pid, signal.SIGTERM)
        assert processes.wait_until(file.exists, 60)
    flat = Profile(file).flat("inuse_space")
    assert flat["keep_first"] == 16 * MB


# --- snapshots -----------------------------------------------------------------------------------

def test_numbered_snapshots(cprofiler, workload, tmp_path):
    file = tmp_path / "h.x.pprof"
    first, second = tmp_path / "h.x.0001.pprof", tmp_path / "h.x.0002.pprof"
    with keeping(cprofiler.argv("record", "--heap", file, "--heap-snapshot", "0.2", *EXACT, "--",
                                workload("keeper"))) as it:
        assert processes.wait_until(first.exists, 60)
        it.tell(b"k")
        assert processes.wait_until(second.exists, 60)
        it.end()
    assert Profile(first).flat("inuse_space")["keep_first"] == 16 * MB
    last = Profile(file).flat("inuse_space")
    assert last["keep_first"] == 16 * MB and last["keep_more"] == 4 * MB
    difference = cprofiler("report", "--base", first, file, check=True).stdout.decode()
    assert "keep_more" in difference


def test_a_snapshot_that_fails_ends_the_snapshots_only(cprofiler, workload, tmp_path):
    file = tmp_path / "h.pprof"
    (tmp_path / "h.0001.pprof").mkdir()
    with keeping(cprofiler.argv("record", "-v", "--heap", file, "--heap-snapshot", "0.1", *EXACT, "--",
                                workload("keeper"))) as it:
        line = b""
        while b"no more snapshots" not in line:
            line = it.process.stderr.readline()
            assert line
        text = it.end()
        assert it.process.returncode == 0
    line = next(x for x in text.splitlines() if x.startswith("  0 numbered snapshots"))
    assert "; no more of them: " in line and "h.0001.pprof: Is a directory" in line
    assert Profile(file).flat("inuse_space")["keep_first"] == 16 * MB
    assert sorted(p.name for p in tmp_path.iterdir()) == ["h.0001.pprof", "h.pprof"]


# --- growth --------------------------------------------------------------------------------------

def test_growth_alone_and_beside_a_cpu_profile(cprofiler, workload, tmp_path):
    alone, cpu, beside = tmp_path / "a", tmp_path / "c", tmp_path / "b"
    growth = ["--heap-mode", "growth"]
    done = cprofiler("record", "--heap", alone, *growth, "-c", "1", "--", workload("grown"), check=True)
    assert b"growth: " in done.stderr and b"all page-faults" in done.stderr
    cprofiler("record", "-o", cpu, "--heap", beside, *growth, "--", workload("grown"), check=True)
    for file in (alone, beside):
        profile = Profile(file)
        assert profile.types == [("faults", "count"), ("growth_space", "bytes")]
        assert max(profile.flat("growth_space").items(), key=lambda x: x[1])[0] == "touch_forty_eight"
    assert Profile(alone).proto.period == 1 and Profile(beside).proto.period == 16
    assert Profile(cpu).types[1] == ("cpu", "nanoseconds")
