"""Other events than CPU time: as many as there were, where they were, or told as lost."""
import subprocess
import time

import pytest

from harness import processes, quality, tracing
from harness.recording import attach, record

FEW = 300  # events of start and end of a program, beside those it makes on purpose


def record_event(cprofiler, folder, command, event, *flags):
    """Records by an event. Returns the recording and the summary's row of that event."""
    got = record(cprofiler, folder, command, hz=None, flags=["-e", event, *flags])
    row, = got.summary["events"]
    print(f"{event} {' '.join(map(str, flags))}: {row}, lost {got.summary['loss']['lost']}")
    return got, row


def assert_complete(got):
    assert quality.complete_share(got.profile) >= 0.99, quality.endings(got.profile).most_common(8)


@pytest.mark.parametrize("engine", ["per-task", "cpu-wide"])
def test_every_tenth_page_fault_is_where_the_page_was_touched(cprofiler, workload, tmp_path, engine):
    got, row = record_event(cprofiler, tmp_path, [workload("counted"), "pages", 3000], "page-faults",
                            "-c", 10, "--engine", engine)
    cum, lost = got.profile.cum("page_faults"), 10 * got.summary["loss"]["lost"]
    assert row["total"] == got.profile.total("page_faults") == 10 * row["samples"]
    assert 12000 <= got.truth["faults"] <= 12000 + FEW
    assert abs(row["total"] + lost - got.truth["faults"]) <= 200
    for name, truth in (("touch_quarter", 3000), ("touch_three_quarters", 9000)):
        assert truth - lost - 200 <= cum[name] <= truth + 200
    assert_complete(got)


def test_page_faults_by_frequency_sum_to_the_kernels_count(cprofiler, workload, tmp_path):
    got, row = record_event(cprofiler, tmp_path, [workload("counted"), "pages", 40000], "page-faults")
    total = got.profile.total("page_faults")
    assert total == row["total"] == row["counted"]
    assert abs(total - got.truth["faults"]) <= FEW
    assert got.profile.cum("page_faults")["touch_three_quarters"] / total == pytest.approx(0.75, abs=0.1)
    assert got.profile.proto.period == pytest.approx(total / row["samples"], abs=1)
    assert_complete(got)


def test_count_of_page_faults_is_that_of_perf_stat(cprofiler, workload, tmp_path):
    command = [str(workload("counted")), "pages", "2000"]
    _, row = record_event(cprofiler, tmp_path, command, "page-faults")
    done = subprocess.run(["perf", "stat", "-x,", "-e", "page-faults", *command], check=True, text=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
    assert abs(row["counted"] - int(done.stderr.split(",")[0])) <= 50


@pytest.mark.parametrize("engine", ["per-task", "cpu-wide"])
def test_every_context_switch_is_there_with_its_whole_stack(cprofiler, workload, tmp_path, engine):
    got, row = record_event(cprofiler, tmp_path, [workload("counted"), "switches", 400],
                            "context-switches", "-c", 1, "--engine", engine)
    lost = got.summary["loss"]["lost"]
    assert abs(row["total"] + lost - got.truth["switches"]) <= 10  # start, exec and exit
    assert got.profile.having("sleep_often", "main", sample_type="context_switches") >= 400 - lost - 10
    assert all(s.frames[0].is_kernel for s in got.profile.samples if "sleep_often" in s.names)
    assert_complete(got)


def test_without_kernel_the_switch_is_in_the_function_that_sleeps(cprofiler, workload, tmp_path):
    got, row = record_event(cprofiler, tmp_path, [workload("counted"), "switches", 400],
                            "context-switches", "-c", 1, "--no-kernel")
    assert row["total"] + got.summary["loss"]["lost"] == row["counted"]
    assert got.profile.cum("context_switches")["sleep_often"] >= 390 - got.summary["loss"]["lost"]
    assert not any(f.is_kernel for s in got.profile.samples for f in s.frames)
    assert_complete(got)


def test_every_pass_of_a_tracepoint_is_there(cprofiler, workload, tmp_path):
    program = tracing.with_tracefs(cprofiler)
    if not program:
        pytest.skip("tracefs can't be mounted here")
    got, row = record_event(program, tmp_path, [workload("counted"), "calls", 2000],
                            "tracepoint:syscalls:sys_enter_getppid", "-c", 1)
    lost = got.summary["loss"]["lost"]
    assert got.profile.types == [("samples", "count"), ("sys_enter_getppid", "count")]
    assert row["counted"] == row["total"] + lost == 2000
    assert got.profile.having("call_often", "main", sample_type="sys_enter_getppid") == 2000 - lost
    assert_complete(got)


def test_a_tracepoint_by_frequency_sums_to_the_kernels_count(cprofiler, workload, tmp_path):
    program = tracing.with_tracefs(cprofiler)
    if not program:
        pytest.skip("tracefs can't be mounted here")
    got, row = record_event(program, tmp_path, [workload("counted"), "switches", 3000], "sched:sched_switch")
    assert got.profile.total("sched_switch") == row["total"] == row["counted"]
    assert row["counted"] == pytest.approx(got.truth["switches"], rel=0.05)
    assert got.profile.cum("sched_switch")["sleep_often"] > 0.9 * row["total"]


def test_events_of_a_running_process_are_taken_while_attached(cprofiler, workload, tmp_path):
    with processes.running([workload("counted"), "switches", "100000000"], stdout=subprocess.DEVNULL) as target:
        time.sleep(0.2)
        got = attach(cprofiler, tmp_path, target.pid, 1, hz=4000, flags=["-e", "context-switches"])
    row, = got.summary["events"]
    assert row["total"] == row["counted"] > 20
    assert got.profile.cum("context_switches")["sleep_often"] > 0.9 * row["total"]
    assert_complete(got)


@pytest.mark.parametrize("engine", ["per-task", "cpu-wide"])
def test_several_events_are_columns_of_one_profile(cprofiler, workload, tmp_path, engine):
    got = record(cprofiler, tmp_path, [workload("counted"), "pages", 6000], hz=None,
                 flags=["-e", "cpu-clock,page-faults", "-e", "cs", "-c", 1000000, "--engine", engine])
    assert got.profile.types == [("samples", "count"), ("cpu", "nanoseconds"), ("page_faults", "count"),
                                 ("context_switches", "count")]
    cpu, faults, switches = got.summary["events"]
    assert got.profile.total("cpu") == cpu["total"] == 1000000 * cpu["samples"]
    assert got.profile.total("page_faults") == faults["total"] == 0 and switches["total"] == 0
    assert got.profile.total("samples") == cpu["samples"] > 0
    if engine == "per-task":
        assert 24000 <= faults["counted"] <= 24000 + FEW
