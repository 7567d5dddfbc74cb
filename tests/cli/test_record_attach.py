"""record -p: by pid, by name, several at once, how long, and what ends it."""
import subprocess
import time

import pytest

from harness import processes, workloads
from harness.pprof import Profile
from harness.recording import attach


@pytest.fixture
def busy(workload):
    """A process that burns for a minute."""
    with processes.running([workload("shares"), "60"], stdout=subprocess.DEVNULL) as target:
        time.sleep(0.1)
        yield target


def test_attach_by_pid_for_a_given_time(cprofiler, busy, tmp_path):
    start = time.monotonic()
    got = attach(cprofiler, tmp_path, busy.pid, 1.5)
    elapsed = time.monotonic() - start
    assert 1.49 <= got.profile.duration_seconds <= elapsed < 30  # late as the machine is busy
    assert got.profile.total() > 0.2e9
    assert {s.labels["pid"] for s in got.profile.samples} == {busy.pid}
    assert busy.poll() is None


def test_time_of_the_recording_is_the_real_one(cprofiler, busy, tmp_path):
    before = time.time()
    got = attach(cprofiler, tmp_path, busy.pid, 0.5)
    assert before - 0.1 <= got.profile.proto.time_nanos / 1e9 <= before + 1


@pytest.mark.parametrize("seconds, text", [(0.5, "0.5"), (1, "1s"), (0.6, "600ms")])
def test_duration_takes_units(cprofiler, busy, tmp_path, seconds, text):
    start = time.monotonic()
    done = cprofiler("record", "-o", tmp_path / "p", "-d", text, "-p", busy.pid)
    if done.returncode == 2:
        assert text not in ("0.5", "1s"), done.stderr
        return
    assert done.returncode == 0
    assert seconds - 0.01 <= Profile(tmp_path / "p").duration_seconds <= time.monotonic() - start < 30


def test_default_file_name_tells_name_and_pid(cprofiler, busy, tmp_path):
    cprofiler("record", "-d", "0.3", "-p", busy.pid, cwd=tmp_path, check=True)
    assert [p.name for p in tmp_path.iterdir()] == [f"cprofiler.shares-{busy.pid}.cpu.pprof"]


def test_attach_by_name(cprofiler, tmp_path):
    program = workloads.copy_to("shares", tmp_path, "unique-name-xq")
    with processes.running([program, "30"], stdout=subprocess.DEVNULL) as target:
        time.sleep(0.1)
        got = attach(cprofiler, tmp_path, "unique-name-xq", 0.7)
        assert {s.labels["pid"] for s in got.profile.samples} == {target.pid}


def test_attach_to_two_processes(cprofiler, busy, workload, tmp_path):
    with processes.running([workload("threads"), "1", "60"], stdout=subprocess.DEVNULL) as other:
        got = attach(cprofiler, tmp_path, f"{busy.pid},{other.pid}", 1)
    assert {s.labels["pid"] for s in got.profile.samples} == {busy.pid, other.pid}
    cum = got.profile.cum()
    assert cum["burn_sixty"] > 0 and cum["burn_in_thread"] > 0


def test_processes_that_were_not_named_are_left_out(cprofiler, busy, workload, tmp_path):
    with processes.running([workload("threads"), "1", "60"], stdout=subprocess.DEVNULL):
        got = attach(cprofiler, tmp_path, busy.pid, 1)
    assert {s.labels["pid"] for s in got.profile.samples} == {busy.pid}
    assert "burn_in_thread" not in got.profile.cum()


def test_end_of_the_target_ends_the_recording(cprofiler, workload, tmp_path):
    with processes.running([workload("shares"), "1"], stdout=subprocess.DEVNULL) as target:
        start = time.monotonic()
        done = cprofiler("record", "-o", tmp_path / "p", "-d", "30", "-p", target.pid, check=True)
    assert time.monotonic() - start < 25, done.stderr
    assert Profile(tmp_path / "p").total() > 0.2e9


def test_attach_twice_in_a_row_gives_the_same_picture(cprofiler, busy, tmp_path):
    shares, sizes = [], []
    for number in range(2):
        profile = attach(cprofiler, tmp_path, busy.pid, 2, hz=999, name=f"n{number}").profile
        shares.append(profile.cum()["burn_sixty"] / profile.total())
        sizes.append(profile.total("samples"))
    # Five standard deviations, with as many samples as a busy machine left us.
    assert shares[0] == pytest.approx(shares[1], abs=5 * (0.24 / sizes[0] + 0.24 / sizes[1]) ** 0.5)


def test_thread_names_and_ids_are_labels(cprofiler, workload, tmp_path, pprof_top):
    with processes.running([workload("threads"), "3", "60"], stdout=subprocess.DEVNULL) as target:
        time.sleep(0.2)
        tids = processes.threads(target.pid)
        got = attach(cprofiler, tmp_path, target.pid, 1.5)
    assert {s.labels["thread_name"] for s in got.profile.samples} == {"worker-0", "worker-1", "worker-2"}
    assert {s.labels["thread_id"] for s in got.profile.samples} == set(tids) - {target.pid}
    assert {s.labels["comm"] for s in got.profile.samples} == {"threads"}
    assert "burn_" in pprof_top(got.file, "-tagfocus=thread_name=worker-1")
