"""The profile is right: workloads that know their answer, recorded by the program under test."""
import os
import re
import subprocess
import time

import pytest

from harness import elf, processes, quality, workloads
from harness.recording import ShareMiss, attach, record

BURNERS = ("burn_ten", "burn_thirty", "burn_sixty")
SHARE_POINTS = 0.02
SUM_RATIO = 0.02


def assert_shares(recording, tolerance=SHARE_POINTS):
    cum, total, truth = recording.profile.cum(), recording.profile.total(), recording.truth
    spent = sum(truth[name] for name in BURNERS)
    for name in BURNERS:
        ours, real = cum.get(name, 0) / total, truth[name] / spent
        print(f"{name}: {ours:.2%} of the profile, {real:.2%} of the CPU")
        if abs(ours - real) > tolerance:
            raise ShareMiss(f"{name}: {ours:.2%}, in truth {real:.2%}")


def assert_sum(recording, tolerance=SUM_RATIO):
    ratio = recording.cpu_ratio
    print(f"sum of cpu/nanoseconds: {ratio:.4f} of getrusage")
    assert abs(ratio - 1) <= recording.sum_tolerance(tolerance), f"{ratio:.4f} of the CPU time by getrusage"


def assert_complete(recording, share=0.99):
    found = quality.complete_share(recording.profile)
    print(f"complete stacks: {found:.2%} {dict(quality.endings(recording.profile).most_common(5))}")
    assert found >= share, quality.endings(recording.profile).most_common(8)
    assert not quality.unnamed_endings(recording.profile), "stacks that end without a reason"


def test_three_functions_have_their_shares_at_20_s_and_199_hz(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("shares"), 20], hz=199)
    assert_shares(got)
    assert_sum(got)
    assert_complete(got)
    for sample in got.profile.samples:
        if "burn_sixty" in sample.names and not sample.frames[0].is_kernel:
            names = sample.names
            assert names.index("main") > names.index("burn_all") > names.index("burn_sixty")


def test_an_inlined_leaf_is_a_frame_of_its_own_below_its_caller(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("shares"), 2])
    assert got.profile.having("burn_rounds", "burn_sixty", "burn_all", "main") > 0.4 * got.profile.total()
    assert got.profile.having("burn_sixty", "burn_rounds") == 0


@pytest.mark.parametrize("engine", ["cpu-wide", "per-task"])
@pytest.mark.parametrize("num_threads", [1, 4])
def test_cpu_sum_equals_getrusage_of_threads(cprofiler, workload, tmp_path, num_threads, engine):
    got = record(cprofiler, tmp_path, [workload("threads"), num_threads, 2.5 * num_threads],
                 flags=["--engine", engine])
    assert_sum(got)
    per_thread = {}
    for sample in got.profile.samples:
        if "burn_in_thread" in sample.names:
            name = sample.labels["thread_name"]
            per_thread[name] = per_thread.get(name, 0) + sample.values["cpu"]
    assert sorted(per_thread) == [f"worker-{i}" for i in range(num_threads)]
    for value in per_thread.values():
        assert value == pytest.approx(2.5e9, rel=0.1)


def test_cpu_sum_equals_getrusage_of_200_threads(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("threads"), 200, 10], hz=499)
    assert_sum(got)
    assert len({s.labels["thread_id"] for s in got.profile.samples}) >= 200
    assert_complete(got)


def test_cpu_sum_equals_getrusage_of_50_short_children(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("forks"), 50, 40], hz=999)
    assert_sum(got)
    assert got.profile.cum()["burn_in_child"] > 0.9 * got.profile.total()
    assert len({s.labels["pid"] for s in got.profile.samples if "burn_in_child" in s.names}) == 50


def test_storm_of_very_short_children_is_sampled(cprofiler, workload, tmp_path):
    # Every child lives shorter than a period of 0.5 ms; 5 % are 4 sigma at a tenth of a CPU.
    got = record(cprofiler, tmp_path, [workload("forks"), 5000, 0.3, 4], hz=1999)
    print(f"samples taken of those due: {got.cpu_ratio:.3f}")
    assert abs(got.cpu_ratio - 1) <= 0.05
    assert_complete(got, 0.95)


def test_no_children_leaves_children_out(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("forks"), 10, 40], flags=["--no-children"])
    assert "burn_in_child" not in got.profile.cum()


def test_cpu_sum_equals_getrusage_of_a_process_that_execs_itself(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("execself"), 4, 3])
    assert_sum(got)
    cum, total = got.profile.cum(), got.profile.total()
    assert cum["burn_before_exec"] / total == pytest.approx(0.25, abs=0.03)
    assert cum["burn_after_exec"] / total == pytest.approx(0.75, abs=0.03)
    assert_complete(got)


def test_attach_to_a_running_process_samples_all_its_threads(cprofiler, workload, tmp_path):
    with processes.running([workload("threads"), "4", "40"], stdout=subprocess.DEVNULL) as target:
        time.sleep(0.3)
        start, before = time.monotonic(), processes.cpu_seconds(target.pid)
        got = attach(cprofiler, tmp_path, target.pid, 4)
        used = (processes.cpu_seconds(target.pid) - before) / (time.monotonic() - start)
    assert len({s.labels["thread_id"] for s in got.profile.samples}) == 4
    assert got.profile.total() / 1e9 / got.profile.duration_seconds == pytest.approx(used, rel=0.1)
    assert_complete(got)


def test_attach_follows_threads_and_children_that_start_later(cprofiler, workload, tmp_path):
    with processes.running([workload("forks"), "60", "40"], stdout=subprocess.DEVNULL) as target:
        time.sleep(0.2)
        got = attach(cprofiler, tmp_path, target.pid, 2)
    assert len({s.labels["pid"] for s in got.profile.samples}) > 20
    assert got.profile.cum()["burn_in_child"] > 0.9 * got.profile.total()
    assert_complete(got)


def test_caller_of_a_function_that_never_returns_is_the_true_one(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("noreturn"), 2])
    profile = got.profile
    want = ("burn_and_never_return", "true_caller", "call_true_caller", "main")
    assert profile.having(*want) > 0.97 * profile.total()
    assert "wrong_neighbour" not in profile.cum()
    assert_complete(got)


def test_code_interrupted_by_a_signal_is_below_the_handler(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("sighandler"), 4])
    profile, truth = got.profile, got.truth
    share = profile.having("burn_in_handler", "on_alarm", "main") / profile.total()
    real = truth["burn_in_handler"] / truth["cpu_ns"]
    print(f"in the handler: {share:.2%}, in truth {real:.2%}")
    assert abs(share - real) <= SHARE_POINTS
    assert profile.having("on_alarm", "burn_in_main", "interrupted", "main") > 0.9 * share * profile.total()
    assert_complete(got)


def test_handler_on_its_own_stack_has_a_marked_end_or_a_complete_stack(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("sighandler"), 2, "altstack"])
    assert got.profile.having("burn_in_handler", "on_alarm") > 0.2 * got.profile.total()
    assert not quality.unnamed_endings(got.profile)


def test_recursion_3000_deep_is_unwound_to_its_end(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("recursion"), 4, 3000], hz=199)
    deep = sum(s.values["samples"] for s in got.profile.samples if s.names.count("descend") == 3000)
    share = deep / got.profile.total("samples")
    print(f"stacks with all 3000 frames: {share:.2%}")
    assert share >= 0.95
    assert_complete(got, 0.95)
    assert_sum(got)


def test_stacks_above_64_kb_are_completed_from_the_live_process(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("deepstack"), 3, 12], hz=199)
    assert_complete(got, 0.95)
    assert max(s.names.count("wide_frame") for s in got.profile.samples) == 12


def test_throw_and_catch_keep_their_stacks(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("throwcatch"), 4])
    profile = got.profile
    assert profile.having("weather::burn_before_throw", "weather::try_once", "main") > 0
    assert profile.having("weather::burn_after_catch", "weather::try_once", "main") > 0
    assert any("_Unwind_RaiseException" in s.names and "main" in s.names for s in profile.samples)
    assert_complete(got)
    assert_sum(got)


def test_callbacks_and_variable_frames_keep_their_callers(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("callbacks"), 4])
    profile, truth = got.profile, got.truth
    sorting = profile.having("compare_values", "sort_values", "main") / profile.total()
    growing = profile.having("burn_under_alloca", "grow_frames", "main") / profile.total()
    assert abs(sorting - truth["sort_values"] / truth["cpu_ns"]) <= SHARE_POINTS
    assert abs(growing - truth["grow_frames"] / truth["cpu_ns"]) <= SHARE_POINTS
    assert {s.names.count("grow_frames") for s in profile.samples if s.names.count("burn_under_alloca")} == {31}
    assert_complete(got)


def test_ptrace_engine_has_the_same_shares(cprofiler, workload, tmp_path):
    """50 samples a second, each standing for the CPU time since the one before: the sum is exact but for
    what the target did after the last look."""
    got = record(cprofiler, tmp_path, [workload("shares"), 8], flags=["--engine", "ptrace"])
    assert got.summary["engine"] == "ptrace" and got.summary["hz"] == 50
    assert_shares(got, 0.12)  # 400 samples: 5 sigma
    assert 0.9 <= got.cpu_ratio <= 1.02
    assert_complete(got)


@pytest.mark.parametrize("variant", ["static", "static-pie", "nonpie", "pie", "stripped"])
def test_every_kind_of_binary_has_the_same_shares(cprofiler, workload, tmp_path, variant):
    got = record(cprofiler, tmp_path, [workload(f"shares-{variant}"), 5], hz=799)  # 3 points: 4 sigma
    assert_shares(got, 0.03)
    assert_sum(got)
    assert_complete(got)


def test_without_any_symbols_addresses_still_have_their_shares(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("shares-nosymbols"), 5], hz=799)
    profile, truth, ranges = got.profile, got.truth, elf.Ranges(str(workload("shares")))
    assert_complete(got)
    sums = dict.fromkeys(BURNERS, 0)
    for sample in profile.samples:
        leaf = sample.frames[0]
        if leaf.mapping_file.endswith("shares-nosymbols"):
            # A PLT entry keeps its name: the relocations are not symbols, and strip leaves them.
            assert re.fullmatch(r"shares-nosymbols\+0x[0-9a-f]+|\w+@plt", leaf.name), leaf.name
            name = ranges.name(elf.elf_addr(profile, leaf))
            if name in sums:
                sums[name] += sample.values["cpu"]
    spent = sum(truth[name] for name in BURNERS)
    for name, value in sums.items():
        assert abs(value / profile.total() - truth[name] / spent) <= 0.03


def test_binary_deleted_while_it_runs(cprofiler, tmp_path):
    program = workloads.copy_to("shares", tmp_path, "gone")
    got = record(cprofiler, tmp_path, [program, 3, "unlink"])
    assert not os.path.exists(program)
    assert_shares(got, 0.03)
    assert got.profile.mapping_file(1) == program
    roots = {s.frames[-1].name for s in got.profile.samples if not s.frames[-1].is_kernel}
    assert roots == {"_start"}


def test_binary_deleted_and_replaced_before_the_attach(cprofiler, workload, tmp_path):
    program = workloads.copy_to("shares", tmp_path, "replaced")
    with processes.running([program, "20"], stdout=subprocess.DEVNULL) as target:
        time.sleep(0.2)
        os.unlink(program)
        workloads.copy_to("forks", tmp_path, "replaced")
        got = attach(cprofiler, tmp_path, target.pid, 3)
    cum, total = got.profile.cum(), got.profile.total()
    assert cum["burn_sixty"] / total == pytest.approx(0.6, abs=0.04)
    assert not [f.name for s in got.profile.samples for f in s.frames if f.name == "burn_in_child"]


def test_shared_object_loaded_while_running(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("pluginhost"), 3, 3])
    want = ("burn_in_plugin", "plugin_entry", "call_plugin", "main")
    assert got.profile.having(*want) > 0.95 * got.profile.total()
    assert_complete(got)


def test_32_bit_process_is_counted_and_said(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("bits32")])
    assert got.profile.total() > 0.3e9
    assert got.summary["loss"]["task_32bit"] > 0
    assert any("32-bit" in s.names[-1] for s in got.profile.samples)


def test_ping_pong_of_two_threads(cprofiler, workload, tmp_path):
    got = record(cprofiler, tmp_path, [workload("pingpong"), 700], hz=999)
    print(f"samples taken of those due: {got.cpu_ratio:.3f}")
    assert abs(got.cpu_ratio - 1) <= 0.05
    assert_complete(got)
