"""The ptrace engine stops threads for a moment: nothing of that may show."""
import signal
import subprocess
import time

import pytest

from harness import processes, workloads
from harness.pprof import Profile
from harness.recording import attach, record
from harness.steady import WORK, assert_right

PTRACE = ["--engine", "ptrace"]


@pytest.mark.parametrize("delay_ms", [20, 130, 330, 700])
def test_target_survives_sigkill_of_the_profiler(cprofiler, steady, tmp_path, right_answer, delay_ms):
    recorder = cprofiler.start("record", *PTRACE, "-q", "-o", tmp_path / "p", "-p", steady.pid)
    time.sleep(delay_ms / 1000)
    recorder.kill()
    recorder.communicate(timeout=10)
    assert processes.status_field(steady.pid, "TracerPid") == "0"
    assert processes.wait_until(lambda: processes.state(steady.pid) in ("R", "S"))
    output, _ = steady.communicate(timeout=60)
    assert steady.returncode == 0
    assert_right(output, right_answer)


def test_after_detach_nothing_of_us_is_left(cprofiler, steady, tmp_path, right_answer):
    fds, maps = processes.descriptors(steady.pid), processes.maps(steady.pid)
    got = attach(cprofiler, tmp_path, steady.pid, 1, flags=PTRACE)
    assert got.summary["engine"] == "ptrace" and got.summary["samples"] > 0
    assert processes.status_field(steady.pid, "TracerPid") == "0"
    assert processes.descriptors(steady.pid) == fds and processes.maps(steady.pid) == maps
    output, _ = steady.communicate(timeout=60)
    assert_right(output, right_answer)


def test_the_command_answers_the_same_when_recorded(cprofiler, workload, tmp_path, right_answer):
    assert_right(record(cprofiler, tmp_path, [workload("steady"), WORK], flags=PTRACE).stdout, right_answer)


def test_stopped_target_stays_stopped_and_can_be_continued(cprofiler, steady, tmp_path, right_answer):
    steady.send_signal(signal.SIGSTOP)
    assert processes.wait_until(lambda: processes.state(steady.pid) == "T")
    attach(cprofiler, tmp_path, steady.pid, 0.5, flags=PTRACE)
    assert processes.state(steady.pid) == "T"
    steady.send_signal(signal.SIGCONT)
    output, _ = steady.communicate(timeout=60)
    assert_right(output, right_answer)


def test_blocked_calls_are_never_interrupted(cprofiler, workload, tmp_path):
    with processes.running([workload("blocked")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as target:
        assert target.stdout.readline() == b"ready\n"
        for number in range(3):
            attach(cprofiler, tmp_path, target.pid, 0.5, name=f"n{number}", flags=PTRACE)
        output, _ = target.communicate(b"x", timeout=30)
    truth = workloads.truth_of(output)
    assert {k: truth[k] for k in ("epoll_wait", "recv", "semtimedop", "sigtimedwait")} == \
        {"epoll_wait": 0, "recv": 0, "semtimedop": 0, "sigtimedwait": 0}


def test_command_that_is_killed_ends_so(cprofiler, tmp_path):
    done = cprofiler("record", *PTRACE, "-o", tmp_path / "p", "--", "sh", "-c",
                     "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; kill -TERM $$")
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert Profile(tmp_path / "p").total() > 0
