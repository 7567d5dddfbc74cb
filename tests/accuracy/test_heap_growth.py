"""`--heap-mode growth` against programs that know how much memory they have made resident."""
import subprocess

import pytest

from harness import heap, processes, workloads

GROWTH = ["--heap-mode", "growth"]


def grow(cprofiler, folder, command, *flags):
    """Records a command. Returns (its profile, its stdout, faults lost)."""
    file, summary = folder / "growth.pprof", folder / "growth.json"
    done = cprofiler("record", "-q", "--heap", file, *GROWTH, f"--json={summary}", *flags, "--", *command)
    assert done.returncode == 0, done.stderr
    return heap.Profile(file), done.stdout, heap.read_json(summary)["loss"]["lost"]


def test_each_page_that_became_resident_is_there(cprofiler, workload, tmp_path):
    profile, output, lost = grow(cprofiler, tmp_path, [workload("grown")], "--heap-rate", "4096")
    truth, flat = workloads.truth_of(output), profile.flat("growth_space")
    for name in ("touch_eight", "touch_twenty_four", "touch_forty_eight"):
        assert truth[name] - lost * 4096 <= flat[name] <= truth[name]
    assert profile.types == [("faults", "count"), ("growth_space", "bytes")]


def test_sampled_growth_is_near(cprofiler, workload, tmp_path):
    profile, output, lost = grow(cprofiler, tmp_path, [workload("grown")])
    truth, cum = workloads.truth_of(output), profile.cum("growth_space")
    for name in ("touch_eight", "touch_twenty_four", "touch_forty_eight"):
        assert cum[name] == pytest.approx(truth[name], abs=(2 + lost) * profile.proto.period * 4096)


def test_growth_of_programs_that_no_breakpoint_fits(cprofiler, workload, tmp_path):
    """Stripped and static: there is no symbol of an allocator."""
    static = tmp_path / "static"
    subprocess.run(["strip", "-s", "-o", static, workload("heap-truth-static")], check=True)
    file = tmp_path / "growth.pprof"
    command = cprofiler.argv("record", "-q", "--heap", file, *GROWTH, "--", static, "5", "2048")
    with heap.talking(command) as talker:
        answer = talker.ask("go")
        talker.process.stdin.close()
        assert talker.process.wait(timeout=60) == 0
    live = sum(row["live_bytes"] for row in answer["functions"].values())
    assert 0.5 * live < heap.Profile(file).total("growth_space") < 3 * live


def test_growth_touches_nothing(cprofiler, tmp_path):
    with heap.churning(tmp_path / "shared", 2) as (process, shared):
        recorder = cprofiler.start("record", "-q", "--heap", tmp_path / "p", *GROWTH, "-d", "1", "-p", process.pid)
        while recorder.poll() is None:
            assert heap.is_clean(process.pid)
        _, errors = recorder.communicate(timeout=60)
        assert recorder.returncode == 0, errors
        assert heap.is_clean(process.pid) and shared.moves()
        assert processes.status_field(process.pid, "TracerPid") == "0"
        shared.ask_to_stop()
        assert process.wait(timeout=60) == 0
        assert heap.Profile(tmp_path / "p").total("growth_space") > 0


def test_growth_of_python_is_seen(cprofiler, tmp_path):
    profile, _, _ = grow(cprofiler, tmp_path, ["/usr/bin/python3", "-c", "x = [str(i) * 50000 for i in range(100, 400)]"])
    assert profile.total("growth_space") > 30e6
