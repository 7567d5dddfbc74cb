"""`record -e`, `-c`: what is accepted, what is refused and how, what the summary says."""
import os
import re
import shutil
import subprocess

import pytest

import pprof_checks
from harness import tracing
from harness.pprof import Profile


def refused(done, status, message, hint):
    assert done.returncode == status, done.stderr
    text = done.stderr.decode()
    assert message in text, text
    assert hint in text, text
    assert done.stdout == b""


@pytest.mark.parametrize("args, message, hint", [
    (["-e", "pgae-faults"], "no event 'pgae-faults'", "did you mean -e page-faults?"),
    (["-e", "cycles:pp"], "no modifier 'pp'", "u (user mode only)"),
    (["-e", "cs:u"], "context-switches happens in kernel mode only", "leave out ':u'"),
    (["-e", "page-faults:k", "--no-kernel"], "--no-kernel is against it", "leave out --no-kernel"),
    (["-e", "cs,page-faults", "-e", "context-switches"], "context-switches twice", "once"),
    (["-e", "syscalls:*"], "no patterns", "its own -e"),
    (["-e", "a:b/c"], "can't be a tracepoint", "sched:sched_switch"),
    (["-e", ""], "no event ''", "-e list"),
    (["-F", "99", "-c", "1"], "both a frequency and a count", "either -F HZ or -c COUNT"),
    (["-c", "5"], "too often for cpu-clock", "nanoseconds"),
    (["-c", "0"], "-c", "--help"),
    (["-e", "cs", "-e", "r1,r2,r3,r4", "-e", "r5,r6,r7"], "more than 7 events", "second run"),
])
def test_a_wrong_event_is_a_wrong_command_line(cprofiler, tmp_path, args, message, hint):
    done = cprofiler("record", "-o", tmp_path / "x.pprof", *args, "--", "true")
    if message == "-c":
        assert done.returncode == 2
        return
    refused(done, 2, message, hint)
    assert not (tmp_path / "x.pprof").exists()


def test_hardware_events_need_hardware(cprofiler, tmp_path):
    done = cprofiler("record", "-o", tmp_path / "x.pprof", "-e", "cycles:u", "--", "gzip", "-c", "/bin/bash")
    if tracing.has_hardware_counters():
        assert done.returncode == 0
        return
    refused(done, 1, "cycles:u: this machine has no hardware counters (virtual machine?)", "-e cpu-clock")


def test_counted_events_by_frequency_are_not_for_the_cpu_wide_engine(cprofiler, tmp_path):
    done = cprofiler("record", "-o", tmp_path / "x.pprof", "-e", "page-faults", "--engine", "cpu-wide", "true")
    refused(done, 1, "page-faults: by frequency it can't be counted CPU-wide", "--engine per-task, or -c COUNT")


def test_tracepoints_are_not_for_the_cpu_wide_engine(cprofiler, tmp_path):
    program = tracing.with_tracefs(cprofiler)
    if not program:
        pytest.skip("tracefs can't be mounted here")
    done = program("record", "-o", tmp_path / "x.pprof", "-e", "sched:sched_switch", "-c", "1", "--engine",
                   "cpu-wide", "true")
    refused(done, 1, "without hiding it from other tracers", "--engine per-task")


def test_a_missing_tracepoint_proposes_the_nearest(cprofiler, tmp_path):
    program = tracing.with_tracefs(cprofiler)
    if not program:
        pytest.skip("tracefs can't be mounted here")
    done = program("record", "-o", tmp_path / "x.pprof", "-e", "sched:sched_swich", "true")
    refused(done, 1, "no tracepoint 'sched:sched_swich' on this machine", "did you mean sched:sched_switch?")


def test_without_tracefs_it_is_said_how_to_mount_it(cprofiler, tmp_path):
    program = tracing.without_tracefs(cprofiler)
    if not program:
        pytest.skip("tracefs can't be unmounted here")
    done = program("record", "-o", tmp_path / "x.pprof", "-e", "sched:sched_switch", "true")
    refused(done, 1, "tracefs is not mounted", "mount -t tracefs nodev /sys/kernel/tracing")


def test_the_list_tells_what_there_is(cprofiler):
    inside = tracing.with_tracefs(cprofiler)
    program = inside or cprofiler
    done = program("record", "-e", "list", check=True)
    lines = done.stdout.decode().splitlines()
    assert any(re.match(r"  page-faults, faults +first touches", line) for line in lines)
    if inside:
        assert "  sched:sched_switch" in lines
    if not tracing.has_hardware_counters():
        assert any(re.match(r"  cycles, cpu-cycles +not on this machine", line) for line in lines)
    with open("/dev/full", "wb") as full:
        assert program("record", "-e", "list", stdout=full).returncode == 1


def test_the_summary_names_the_event_and_not_cpu(cprofiler, workload, tmp_path):
    done = cprofiler("record", "-o", tmp_path / "x.pprof", "-e", "page-faults", "-c", "10", "--",
                     workload("counted"), "pages", "2000", check=True)
    text = done.stderr.decode()
    assert re.search(r"1 thread, 1 in 10 page-faults, engine perf \(per-task\)\n", text), text
    assert re.search(r"\n  \d+ samples = 8 \d\d0 page-faults \(\d+ per s\), kernel \d+ %"
                     r"(; the kernel counted 8 \d{3})?\n", text), text  # one time in ten they are equal
    assert "s CPU (" not in text


def test_a_target_without_such_events_gives_an_empty_profile_that_says_so(cprofiler, tmp_path):
    done = cprofiler("record", "-o", tmp_path / "x.pprof", "-e", "alignment-faults", "--", "true", check=True)
    assert b"no samples: none of these events happened" in done.stderr
    assert cprofiler("report", tmp_path / "x.pprof", check=True).stdout


def test_a_profile_of_events_keeps_every_rule_of_the_format(cprofiler, go_pprof, workload, tmp_path):
    file = tmp_path / "x.pprof"
    cprofiler("record", "-q", "-o", file, "-e", "page-faults,context-switches:k", "--", workload("counted"),
              "pages", "4000", check=True)
    profile = Profile(file)
    pprof_checks.check_structure(profile, file.read_bytes())
    pprof_checks.check_01_go_pprof_is_silent(go_pprof, file)
    assert profile.types == [("samples", "count"), ("page_faults", "count"), ("context_switches_k", "count")]
    period_type, default = profile.proto.period_type, profile.proto.default_sample_type
    assert [profile.strings[i] for i in (period_type.type, period_type.unit, default)] == \
        ["page_faults", "count", "page_faults"]


def test_without_rights_kernel_events_name_what_hides_them(cprofiler, workload, open_dir):
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with open("/proc/sys/kernel/perf_event_paranoid", encoding="ascii") as file:
        if int(file.read()) < 2:
            pytest.skip("everybody may see the kernel here")
    program = shutil.copy(cprofiler.path, open_dir / "cprofiler")
    done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                           program, "record", "-o", open_dir / "x.pprof", "-e", "cs", "true"], cwd=open_dir,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert re.search(rb"perf_event_paranoid( is)? \d", done.stderr), done.stderr
    assert b"sysctl kernel.perf_event_paranoid=1" in done.stderr
