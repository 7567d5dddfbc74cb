"""The pprof conformance checklist on profiles that the program really recorded; numbers as in the list.

Rules that need nothing but the file run over a set of recordings of different kinds.
"""
import functools
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

import pprof_checks as checks
from harness import elf, recording
from harness.paths import TESTS
from harness.pprof import KERNEL, Profile
from harness.processes import running, wait_until

HZ = 499
PROGRAMS = Path(__file__).parent / "programs"


def build_program(name, folder):
    """Compiles a program of this folder."""
    target = folder / name
    subprocess.run(["gcc", "-O2", "-g", "-fomit-frame-pointer", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror",
                    "-I", TESTS / "workloads", "-o", target, PROGRAMS / f"{name}.c"], check=True, timeout=60)
    return target


@pytest.fixture(scope="module")
def recorded(cprofiler, workload, tmp_path_factory):
    """recorded(NAME): a recording of that kind, made once."""
    folder = tmp_path_factory.mktemp("recorded")

    def shares():
        return [workload("shares"), "2"], {}

    def threads():
        return [workload("threads"), "4", "2"], {}

    def cxx():
        return [workload("throwcatch"), "1"], {}

    def odd():
        odd_folder = os.fsencode(folder) + b"/f\xff\"\n\x1b[1m"
        os.makedirs(odd_folder, exist_ok=True)
        program = odd_folder + b"/odd\xfename"
        subprocess.run(["cp", workload("oddname"), program], check=True, timeout=30)
        return [program, b"1", b"\xfd\xff"], {}

    def nosymbols():
        return [workload("shares-nosymbols"), "1"], {}

    def noreturn():
        return [workload("noreturn"), "1"], {}

    def kernel():
        return [build_program("kernelwork", folder), "1"], {}

    def jit():
        return [build_program("jitwork", folder), "1"], {}

    def mapped_jit():
        return [build_program("jitwork", folder), "1", "/tmp"], {}

    def unnamed():
        return [build_program("unnamed", folder), "1"], {}

    kinds = {f.__name__: f for f in (shares, threads, cxx, odd, nosymbols, noreturn, kernel, jit, mapped_jit,
                                     unnamed)}

    @functools.lru_cache(maxsize=None)
    def get(kind):
        command, options = kinds[kind]()
        return recording.record(cprofiler, folder, command, hz=HZ, name=kind, **options)

    yield get
    for map_file in Path("/tmp").glob("perf-*.map"):
        if "jitted_first" in map_file.read_text(errors="replace"):
            map_file.unlink()


KINDS = ["shares", "threads", "cxx", "odd", "nosymbols", "noreturn", "kernel", "jit", "mapped_jit",
         "unnamed"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_01_file_is_one_gzip_member_that_go_pprof_takes_silently(recorded, go_pprof, kind):
    file = recorded(kind).file
    checks.check_01_one_gzip_member(file.read_bytes())
    checks.check_01_go_pprof_is_silent(go_pprof, file)


@every_kind
def test_02_string_table(recorded, kind):
    checks.check_02_string_table(recorded(kind).profile)


@every_kind
def test_03_strings_are_valid_utf8(recorded, kind):
    checks.check_03_valid_utf8(recorded(kind).profile.raw)


def test_03_broken_bytes_of_names_are_replaced(recorded):
    profile = recorded("odd").profile
    assert any("\ufffd" in str(s.labels["comm"]) for s in profile.samples)
    assert "\ufffd" in profile.mapping_file(1)
    assert any("\ufffd" in comment for comment in profile.comments)


@every_kind
def test_04_ids_are_dense(recorded, kind):
    checks.check_04_dense_ids(recorded(kind).profile)


@every_kind
def test_05_values(recorded, kind):
    checks.check_05_sample_values(recorded(kind).profile)


@every_kind
def test_06_nothing_comes_twice_or_unused(recorded, kind):
    checks.check_06_nothing_twice_or_unused(recorded(kind).profile)


@every_kind
def test_07_fields_are_known_and_come_once(recorded, kind):
    checks.check_07_known_fields_once(recorded(kind).profile)


@every_kind
def test_08_encoding_is_stable_and_our_reader_reads_it(recorded, cprofiler, kind):
    checks.check_08_encoding_is_stable(recorded(kind).profile, recorded(kind).file.read_bytes())
    assert b"Showing nodes" in cprofiler("report", recorded(kind).file, check=True).stdout


def test_09_idle_target_gives_a_valid_profile(cprofiler, go_pprof, tmp_path):
    with running(["sleep", "60"]) as target:
        time.sleep(0.2)
        got = recording.attach(cprofiler, tmp_path, target.pid, 1)
    assert not got.profile.samples
    checks.check_structure(got.profile, got.file.read_bytes())
    checks.check_09_empty_profile(go_pprof, got.file)
    assert b"of 0 total" in cprofiler("report", got.file, check=True).stdout


def wait_for_samples():
    """Long enough that something is recorded."""
    time.sleep(1.5)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_10_signal_leaves_a_complete_profile(cprofiler, workload, go_pprof, tmp_path, signal_number):
    file = tmp_path / "cpu.pprof"
    recorder = cprofiler.start("record", "-o", file, "--", workload("shares"), "60")
    wait_for_samples()
    recording.finish(recorder, signal_number)
    checks.check_structure(Profile(file), file.read_bytes())
    assert Profile(file).samples
    checks.check_01_go_pprof_is_silent(go_pprof, file)


def test_10_death_of_the_target_leaves_a_complete_profile(cprofiler, workload, go_pprof, tmp_path):
    file = tmp_path / "cpu.pprof"
    with running([workload("shares"), "60"]) as target:
        recorder = recording.start_attached(cprofiler, file, target.pid)
        wait_for_samples()
        target.kill()
        target.wait()
        recorder.communicate(timeout=30)
    checks.check_structure(Profile(file), file.read_bytes())
    checks.check_01_go_pprof_is_silent(go_pprof, file)


def test_10_death_of_the_recorder_leaves_no_profile(cprofiler, workload, tmp_path):
    file = tmp_path / "cpu.pprof"
    file.write_bytes(b"an older file")
    with running([workload("shares"), "10"]) as target:
        recorder = recording.start_attached(cprofiler, file, target.pid)
        wait_for_samples()
        recording.finish(recorder, signal.SIGKILL)
        assert target.poll() is None, "the target died with the recorder"
    assert file.read_bytes() == b"an older file"


def build_id(path):
    """What readelf says."""
    notes = subprocess.run(["readelf", "-n", path], check=True, text=True, stdout=subprocess.PIPE).stdout
    return re.search(r"Build ID: ([0-9a-f]+)", notes).group(1)


@pytest.mark.parametrize("kind,program", [("shares", "shares"), ("cxx", "throwcatch")])
def test_11_first_mapping_is_the_program(recorded, workload, go_pprof, kind, program):
    path = workload(program)
    checks.check_11_main_mapping(recorded(kind).profile, go_pprof, recorded(kind).file, path, build_id(path))


@every_kind
def test_12_addresses_lie_in_their_mappings(recorded, kind):
    checks.check_12_addresses_lie_in_mappings(recorded(kind).profile)


@pytest.mark.parametrize("name", ["shares", "shares-pie", "shares-nonpie", "shares-static"])
def test_12_mappings_are_those_of_the_kernel(cprofiler, workload, tmp_path, name):
    with running([workload(name), "60"], stdout=subprocess.DEVNULL) as target:
        assert wait_until(lambda: "libc" in Path(f"/proc/{target.pid}/maps").read_text()
                          or "static" in name)
        got = recording.attach(cprofiler, tmp_path, target.pid, 1)
        maps_text = Path(f"/proc/{target.pid}/maps").read_text()
    checks.check_12_mappings_are_those_of_the_kernel(got.profile, maps_text)


@every_kind
def test_14_functions_are_declared_on_every_mapping(recorded, kind):
    checks.check_14_has_functions(recorded(kind).profile)


def test_14_names_survive_another_binary_at_the_same_path(cprofiler, workload, go_pprof, tmp_path):
    program = tmp_path / "app"
    program.write_bytes(workload("shares").read_bytes())
    program.chmod(0o755)
    got = recording.record(cprofiler, tmp_path, [program, "1"], hz=HZ)
    program.unlink()
    program.write_bytes(workload("throwcatch").read_bytes())
    program.chmod(0o755)
    rewritten = tmp_path / "rewritten.pprof"
    go_pprof("-proto", f"-output={rewritten}", got.file)
    assert checks.frame_names(Profile(rewritten)) == checks.frame_names(got.profile)
    assert "burn_sixty" in go_pprof("-top", got.file).stdout


def one_sample_for_each_stack_of_names(profile, names, path):
    """Writes a copy with one sample of value 1 for each stack of names that is in `names`."""
    proto, wanted = profile.proto, dict.fromkeys(names)
    kept = []
    for raw, sample in zip(proto.sample, profile.samples):
        if wanted.pop(tuple(sample.names), "gone") != "gone":
            raw.value[:] = [1, 1000]
            kept.append(raw)
    copy = type(proto)()
    copy.CopyFrom(proto)
    del copy.sample[:]
    copy.sample.extend(kept)
    path.write_bytes(copy.SerializeToString())


def test_16_runs_of_a_moved_program_cancel_out(cprofiler, workload, go_pprof, tmp_path):
    runs = [recording.record(cprofiler, tmp_path, [workload("shares-pie"), "1"], hz=HZ, name=f"run{i}",
                             flags=["--no-kernel"]) for i in (1, 2)]
    starts = {r.profile.proto.mapping[0].memory_start for r in runs}
    assert len(starts) == 2, "the program was not moved (is ASLR off?)"
    names = set.intersection(*({tuple(s.names) for s in r.profile.samples} for r in runs))
    assert any("burn_sixty" in n for n in names)
    for i, run in enumerate(runs):
        one_sample_for_each_stack_of_names(run.profile, names, tmp_path / f"ones{i}")
        assert checks.focused_value(go_pprof, tmp_path / f"ones{i}") == 1000 * len(names)
    checks.check_16_cancels_out(go_pprof, tmp_path / "ones0", tmp_path / "ones1")
    merged = tmp_path / "merged"
    go_pprof("-proto", f"-output={merged}", runs[0].file, runs[1].file)
    profile = Profile(merged)
    files = [profile.mapping_file(m.id) for m in profile.proto.mapping]
    assert files.count(str(workload("shares-pie"))) == 1, files


def test_17_kernel_and_vdso_frames_have_names(recorded):
    if os.geteuid() != 0:
        pytest.skip("kernel frames need root")
    profile = recorded("kernel").profile
    checks.check_17_kernel_frames(profile)
    assert profile.having("read_zeros") > 0
    below = [s for s in profile.samples if "read_zeros" in s.names and s.frames[0].is_kernel]
    assert below, "no sample reaches from the kernel into read_zeros"
    vdso = [f.name for s in profile.samples for f in s.frames if f.mapping_file == "[vdso]"]
    named = [name for name in vdso if "clock_gettime" in name or not name.startswith("[vdso]")]
    assert vdso and len(named) == len(vdso), sorted(set(vdso))


def test_18_jit_code_is_named_by_its_map(recorded):
    profile = recorded("mapped_jit").profile
    flat, total = profile.flat(), profile.total()
    assert 0.15 <= flat.get("jitted_first", 0) / total <= 0.35, flat
    assert 0.65 <= flat.get("jitted second(int)", 0) / total <= 0.85, flat


def test_18_jit_code_without_a_map_keeps_its_places(recorded):
    profile = recorded("jit").profile
    leaves = {(s.frames[0].location.address, s.frames[0].name) for s in profile.samples
              if s.frames[0].mapping is not None and not s.frames[0].is_kernel
              and not s.frames[0].mapping_file.startswith(("/", "[vdso"))}
    jitted = {address for address, _ in leaves}
    assert len({address & ~0xFF for address in jitted}) == 2, leaves
    assert len({name for _, name in leaves}) == len(jitted), leaves
    assert all(re.search(r"\+0x[0-9a-f]+$", name) for _, name in leaves), leaves
    assert "have it write a perf map" in recorded("jit").summary["worst"]["remedy"]


@functools.lru_cache(maxsize=8)
def addresses_after_calls(path):
    """Addresses that follow a call instruction."""
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], check=True, text=True, timeout=60,
                             stdout=subprocess.PIPE).stdout
    out, after_call, last = set(), False, 0
    for line in listing.splitlines():
        found = re.match(r"\s+([0-9a-f]+):\s+(.*)", line)
        if found:
            last = int(found.group(1), 16)
            if after_call:
                out.add(last)
            after_call = re.match(r"(bnd )?call", found.group(2)) is not None
    return out


@pytest.mark.parametrize("kind,program", [("shares", "shares"), ("noreturn", "noreturn")])
def test_19_callers_are_return_addresses_minus_one(recorded, workload, kind, program):
    profile, path = recorded(kind).profile, str(workload(program))
    num_checked = 0
    for sample in profile.samples:
        previous = None
        for frame in sample.frames:
            is_caller = previous is not None and frame.location is not previous.location \
                and not previous.is_kernel
            if is_caller and frame.mapping_file == path:
                assert elf.elf_addr(profile, frame) + 1 in addresses_after_calls(path), frame
                num_checked += 1
            previous = frame
    assert num_checked > 10


def test_19_caller_of_a_function_that_never_returns(recorded):
    profile = recorded("noreturn").profile
    assert profile.having("burn_and_never_return", "true_caller", "main") > 0.9 * profile.total()
    assert "wrong_neighbour" not in profile.cum()


def test_21_file_names_are_absolute(recorded, workload):
    profile, path = recorded("shares").profile, str(workload("shares"))
    files = {f.file for s in profile.samples for f in s.frames if f.mapping_file == path}
    assert str(TESTS / "workloads" / "truth.h") in files and str(TESTS / "workloads" / "shares.c") in files
    assert all(f.startswith("/") or not f for f in files), files


def test_21_list_shows_the_hot_line(recorded, go_pprof):
    listing = go_pprof("-list", "^burn_rounds$", recorded("shares").file).stdout
    rows = [line.split(None, 3) for line in listing.splitlines() if "x = (x ^ (x >> 29))" in line]
    assert rows and re.match(r"[\d.]+m?s$", rows[0][0]), listing


@every_kind
def test_24_every_place_has_a_line(recorded, kind):
    checks.check_24_every_location_has_a_line(recorded(kind).profile)


def test_24_places_without_symbols_are_rows_of_their_own(recorded, pprof_top):
    profile = recorded("nosymbols").profile
    names = {f.name for s in profile.samples for f in s.frames if f.name.startswith("shares-nosymbols+0x")}
    assert len(names) >= 4, names
    shown = pprof_top(recorded("nosymbols").file, "-nodefraction=0")
    assert all(name in shown for name in names)


@every_kind
def test_25_reason_frames_are_roots(recorded, kind):
    checks.check_25_reasons_are_roots(recorded(kind).profile)


@pytest.mark.parametrize("kind", ["jit", "shares"])
def test_25_cut_stacks_are_counted(recorded, kind):
    got = recorded(kind)
    by_reason, loss = checks.reason_samples(got.profile), got.summary["loss"]
    keys = {"[truncated]": "truncated", "[no unwind info]": "no_unwind_info", "[jit]": "jit",
            "[unknown mapping]": "no_mapping", "[broken unwind info]": "bad_cfa", "[too deep]": "too_deep"}
    for reason, key in keys.items():
        assert by_reason.get(reason, 0) == loss[key], (by_reason, loss)
    assert got.profile.total("samples") == got.summary["samples"]
    assert abs(got.profile.total("cpu") / 1e9 - got.summary["cpu_seconds"]) < 1e-5


@every_kind
def test_26_types_and_period(recorded, kind):
    checks.check_26_cpu_types(recorded(kind).profile, HZ)


@pytest.mark.parametrize("kind", ["shares", "threads"])
def test_26_cpu_time_is_that_of_getrusage(recorded, kind):
    assert abs(recorded(kind).cpu_ratio - 1) <= recorded(kind).sum_tolerance(0.05)


def test_30_time_and_duration(cprofiler, go_pprof, workload, tmp_path):
    with running([workload("shares"), "60"], stdout=subprocess.DEVNULL) as target:
        earliest = time.time()
        got = recording.attach(cprofiler, tmp_path, target.pid, 3)
        ended = time.time()
    checks.check_30_times(got.profile, go_pprof, got.file, earliest, ended, 3)


def test_31_labels_select_threads(recorded, go_pprof):
    profile = recorded("threads").profile
    names = {s.labels["thread_name"] for s in profile.samples}
    assert {"worker-0", "worker-1", "worker-2", "worker-3"} <= names
    checks.check_31_labels(profile, go_pprof, recorded("threads").file)


def test_31_thread_without_a_name_has_no_name_label(recorded):
    profile = recorded("unnamed").profile
    unnamed = [s for s in profile.samples if "burn_namelessly" in s.names]
    assert unnamed
    for sample in unnamed:
        assert sample.labels.get("thread_name", "text") and sample.labels.get("comm", "text")
        assert sample.labels["thread_id"]


def test_32_comments_are_shown(recorded, go_pprof, workload):
    got = recorded("shares")
    checks.check_32_comments(got.profile, go_pprof, got.file, "cprofiler ", f"{HZ} Hz",
                             f"{workload('shares')} 2", "lost 0", "throttled 0")


def test_33_profiles_of_different_runs_merge(recorded, cprofiler, workload, go_pprof, tmp_path):
    other = recording.record(cprofiler, tmp_path, [workload("throwcatch"), "0.5"], hz=97).file
    files = [recorded("shares").file, recorded("threads").file, other]
    merged = tmp_path / "merged.pprof"
    done = go_pprof("-proto", f"-output={merged}", *files)
    assert "incompatible" not in done.stderr
    assert Profile(merged).total() == sum(Profile(f).total() for f in files)


def test_kernel_frames_come_before_user_frames(recorded):
    for sample in recorded("kernel").profile.samples:
        kinds = [f.mapping_file.startswith(KERNEL) for f in sample.frames]
        assert kinds == sorted(kinds, reverse=True), sample.frames
