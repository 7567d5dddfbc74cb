"""Whatever happens to us, the target is as it was: it runs on, answers right, and carries nothing of ours."""
import json
import os
import signal
import subprocess
import time

import pytest

from harness import processes, workloads
from harness.pprof import Profile
from harness.recording import attach, finish, record
from harness.steady import WORK, assert_right

def writers_of(file):
    """Processes whose stdout is `file`."""
    out = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{entry}/fd/1") == str(file):
                out.append(int(entry))
        except OSError:
            pass
    return out


# --- killed without warning --------------------------------------------------------------------

@pytest.mark.parametrize("delay_ms", [1, 5, 15, 30, 50, 200, 1000])
def test_launched_command_survives_sigkill_of_the_profiler(cprofiler, workload, tmp_path, right_answer, delay_ms):
    output = tmp_path / "stdout"
    with open(output, "wb") as stdout:
        recorder = cprofiler.start("record", "-q", "-o", tmp_path / "p", "--", workload("steady"), WORK,
                                   stdout=stdout, stderr=subprocess.DEVNULL)
    time.sleep(delay_ms / 1000)
    recorder.kill()
    recorder.wait(timeout=10)
    assert processes.wait_until(lambda: not writers_of(output), 60, 0.05), "the command never ended"
    text = output.read_bytes()
    if delay_ms >= 200 or text:
        assert_right(text, right_answer)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("delay_ms", [1, 5, 15, 30, 50, 200, 800])
def test_attached_target_survives_sigkill_of_the_profiler(cprofiler, steady, tmp_path, right_answer, delay_ms):
    before = processes.descriptors(steady.pid)
    recorder = cprofiler.start("record", "-q", "-o", tmp_path / "p", "-p", steady.pid)
    time.sleep(delay_ms / 1000)
    recorder.kill()
    recorder.communicate(timeout=10)
    assert processes.status_field(steady.pid, "TracerPid") == "0"
    assert processes.state(steady.pid) in ("R", "S")
    assert processes.descriptors(steady.pid) == before
    output, _ = steady.communicate(timeout=60)
    assert steady.returncode == 0
    assert_right(output, right_answer)


# --- after a normal end ------------------------------------------------------------------------

def bpf_ids(kind):
    """Ids of the BPF objects of a kind in the kernel."""
    done = subprocess.run(["bpftool", "-j", kind, "list"], check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, timeout=30)
    try:
        return {row["id"] for row in json.loads(done.stdout or b"[]")}
    except (ValueError, KeyError, TypeError):
        return set()


def test_after_detach_nothing_of_us_is_left(cprofiler, steady, tmp_path, right_answer):
    fds, maps = processes.descriptors(steady.pid), processes.maps(steady.pid)
    threads = processes.threads(steady.pid)
    bpf = {kind: bpf_ids(kind) for kind in ("prog", "map", "link")}
    holders = set(processes.anon_inode_holders("perf_event"))
    attach(cprofiler, tmp_path, steady.pid, 1)
    # Other tests may record at the same time; what is theirs goes when they end. Ids are never used again.
    new_bpf = {kind: bpf_ids(kind) - ids for kind, ids in bpf.items()}
    new_holders = set(processes.anon_inode_holders("perf_event")) - holders
    assert processes.status_field(steady.pid, "TracerPid") == "0"
    assert processes.descriptors(steady.pid) == fds
    assert processes.maps(steady.pid) == maps
    assert processes.threads(steady.pid) == threads
    assert processes.wait_until(lambda: not new_holders & set(processes.anon_inode_holders("perf_event")), 60, 0.2), \
        "perf events are still open"
    for kind, ids in new_bpf.items():
        assert processes.wait_until(lambda k=kind, i=ids: not bpf_ids(k) & i, 60, 0.2), f"a BPF {kind} is left"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["attach.json", "attach.pprof"]
    output, _ = steady.communicate(timeout=60)
    assert_right(output, right_answer)


def test_the_command_answers_the_same_when_recorded(cprofiler, workload, tmp_path, right_answer):
    got = record(cprofiler, tmp_path, [workload("steady"), WORK])
    assert_right(got.stdout, right_answer)


def test_target_maps_and_breakpoints_untouched_while_recording(cprofiler, steady, tmp_path):
    code = next(line for line in processes.maps(steady.pid) if "r-xp" in line and "steady" in line)
    start, limit = (int(x, 16) for x in code.split()[0].split("-"))

    def text():
        with open(f"/proc/{steady.pid}/mem", "rb") as memory:
            memory.seek(start)
            return memory.read(limit - start)
    before, maps = text(), processes.maps(steady.pid)
    recorder = cprofiler.start("record", "-q", "-o", tmp_path / "p", "-p", steady.pid)
    time.sleep(0.7)
    assert recorder.poll() is None
    assert text() == before and processes.maps(steady.pid) == maps
    assert processes.status_field(steady.pid, "TracerPid") == "0"
    assert finish(recorder)[0] == 0


# --- stopped, blocked, interrupted -------------------------------------------------------------

def test_stopped_target_stays_stopped_and_can_be_continued(cprofiler, steady, tmp_path, right_answer):
    steady.send_signal(signal.SIGSTOP)
    assert processes.wait_until(lambda: processes.state(steady.pid) == "T")
    recorder = cprofiler.start("record", "-o", tmp_path / "p", "-d", "1", "-p", steady.pid)
    seen = set()
    while recorder.poll() is None:
        seen.add(processes.state(steady.pid))
        time.sleep(0.05)
    _, errors = recorder.communicate()
    assert recorder.returncode == 0, errors
    assert seen == {"T"} and processes.state(steady.pid) == "T"
    assert (tmp_path / "p").exists()
    steady.send_signal(signal.SIGCONT)
    output, _ = steady.communicate(timeout=60)
    assert_right(output, right_answer)


def test_idle_target_gives_a_valid_empty_profile(cprofiler, tmp_path, pprof_top):
    with processes.running(["sleep", "60"]) as target:
        time.sleep(0.2)
        got = attach(cprofiler, tmp_path, target.pid, 1)
    assert got.profile.total() == 0
    assert "0 of 0" in pprof_top(got.file) or "of 0 total" in pprof_top(got.file)


def test_blocked_calls_are_never_interrupted(cprofiler, workload, tmp_path):
    with processes.running([workload("blocked")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as target:
        assert target.stdout.readline() == b"ready\n"
        for number in range(3):
            attach(cprofiler, tmp_path, target.pid, 0.5, name=f"n{number}")
        output, _ = target.communicate(b"x", timeout=30)
    truth = workloads.truth_of(output)
    assert {k: truth[k] for k in ("epoll_wait", "recv", "semtimedop", "sigtimedwait")} == \
        {"epoll_wait": 0, "recv": 0, "semtimedop": 0, "sigtimedwait": 0}


@pytest.mark.parametrize("gap_ms", [0, 1, 5, 20])
def test_second_interrupt_leaves_no_partial_file(cprofiler, steady, tmp_path, gap_ms):
    folder = tmp_path / "out"
    folder.mkdir()
    recorder = cprofiler.start("record", "-o", folder / "p", "-F", "5000", "-p", steady.pid)
    time.sleep(0.8)
    recorder.send_signal(signal.SIGINT)
    time.sleep(gap_ms / 1000)
    recorder.send_signal(signal.SIGINT)
    _, errors = recorder.communicate(timeout=30)
    left = sorted(p.name for p in folder.iterdir())
    if left:
        assert left == ["p"] and recorder.returncode in (0, 130, -signal.SIGINT)
        assert Profile(folder / "p").total() > 0
    else:
        assert recorder.returncode in (130, -signal.SIGINT), errors


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_one_signal_ends_the_attach_and_keeps_the_recording(cprofiler, steady, tmp_path, name, right_answer):
    recorder = cprofiler.start("record", "-o", tmp_path / "p", "-p", steady.pid)
    time.sleep(0.8)
    status, errors = finish(recorder, getattr(signal, name))
    assert status == 0, errors
    assert Profile(tmp_path / "p").total() > 0.05e9
    output, _ = steady.communicate(timeout=60)
    assert_right(output, right_answer)


def test_target_killed_while_attached_keeps_what_was_recorded(cprofiler, steady, tmp_path):
    recorder = cprofiler.start("record", "-o", tmp_path / "p", "-p", steady.pid)
    time.sleep(1)
    steady.kill()
    steady.wait(timeout=10)
    _, errors = recorder.communicate(timeout=20)
    assert recorder.returncode == 0, errors
    assert Profile(tmp_path / "p").total() > 0.05e9


def test_two_profilers_at_once_do_not_disturb_each_other(cprofiler, steady, tmp_path, right_answer):
    recorders = [cprofiler.start("record", "-o", tmp_path / f"p{i}", "-d", "1.5", "-p", steady.pid)
                 for i in range(2)]
    for recorder in recorders:
        _, errors = recorder.communicate(timeout=30)
        assert recorder.returncode == 0, errors
    totals = [Profile(tmp_path / f"p{i}").total() for i in range(2)]
    assert totals[0] == pytest.approx(totals[1], rel=0.4)
    output, _ = steady.communicate(timeout=60)
    assert_right(output, right_answer)
