"""Heap profiles of a real recording against the conformance checklist, Go's conventions and `report`.

One recording with snapshots serves all tests. How right the numbers are is asked in tests/accuracy; here only what
must hold of any.
"""
import re
import subprocess
from types import SimpleNamespace

import pytest

import pprof_checks as checks
from harness.heap_profile import TYPES
from harness.pprof import Profile
from harness.processes import wait_until
from test_pprof_conformance import build_program

RATE = 64 << 10
REMARKS = set(checks.HEAP_REMARKS)


def snapshots(folder):
    return sorted(folder.glob("heap.0*.pprof"))


def next_snapshot(folder):
    """Waits for a snapshot that was begun after now: the second from now on. Returns its path."""
    before = len(snapshots(folder))
    wait_until(lambda: len(snapshots(folder)) >= before + 2, seconds=60)
    return snapshots(folder)[before + 1]


@pytest.fixture(scope="module")
def recorded(cprofiler, tmp_path_factory):
    """A recording: what the program held, then leaked, then all at its end."""
    folder = tmp_path_factory.mktemp("heap")
    program = build_program("heapwork", folder)
    out = SimpleNamespace(folder=folder, last=folder / "heap.pprof", cpu=folder / "cpu.pprof")
    with cprofiler.start("record", "-q", "--heap", out.last, "-o", out.cpu, "--heap-rate", RATE, "--heap-budget", "none",
                         "--heap-snapshot", "0.3", "--", program, stdin=subprocess.PIPE) as process:
        for step, name in ((b"k\n", "held"), (b"l\n", "leaked")):
            process.stdin.write(step)
            process.stdin.flush()
            assert process.stdout.readline() == b"done\n", process.stderr.read()
            setattr(out, name, next_snapshot(folder))
        process.stdin.close()
        assert process.wait(timeout=60) == 0, process.stderr.read()
    return out


@pytest.mark.parametrize("name", ["held", "leaked", "last"])
def test_structure(recorded, go_pprof, name):
    path = getattr(recorded, name)
    profile, packed = Profile(path), path.read_bytes()
    checks.check_structure(profile, packed)
    checks.check_08_encoding_is_stable(profile, packed)
    checks.check_01_go_pprof_is_silent(go_pprof, path)
    checks.check_12_addresses_lie_in_mappings(profile)
    checks.check_14_has_functions(profile)
    checks.check_24_every_location_has_a_line(profile)
    checks.check_25_reasons_are_roots(profile)


@pytest.mark.parametrize("name", ["held", "leaked", "last"])
def test_27_types_labels_and_all_views_of_go_pprof(recorded, go_pprof, name):
    path = getattr(recorded, name)
    profile = Profile(path)
    checks.check_27_heap_types(profile, RATE)
    checks.check_27_go_pprof_shows_all(profile, go_pprof, path)


def test_31_labels_tell_threads_and_sizes(recorded, go_pprof):
    profile = Profile(recorded.leaked)
    for sample in profile.samples:
        if sample.frames[0].name not in REMARKS:
            assert sample.labels["comm"] == "heapwork" and sample.labels["pid"] > 0, sample.labels
    assert len({s.labels.get("thread_id") for s in profile.samples if "churn" in s.names}) == 2
    text = go_pprof("-top", "-alloc_space", "-tagfocus=bytes=12000b", recorded.leaked).stdout
    assert "leak" in text and "keep" not in text


def test_32_comments_are_shown(recorded, go_pprof):
    checks.check_32_comments(Profile(recorded.last), go_pprof, recorded.last, "cprofiler", "heapwork")


def test_what_is_freed_is_not_in_use_and_the_allocator_is_cut_off(recorded):
    profile = Profile(recorded.held)
    assert profile.having("churn", sample_type="alloc_space") > 0
    assert profile.having("churn", sample_type="inuse_space") == 0
    leaves = {s.frames[0].name for s in profile.samples if s.values["alloc_space"]}
    assert {"hold", "churn"} <= leaves and not {n for n in leaves if "malloc" in n}, leaves
    # A block of 128 times the distance between samples is never missed.
    assert profile.having("large", sample_type="inuse_space") == 8 << 20
    assert profile.having("large", sample_type="inuse_objects") == 1


def test_what_is_in_use_and_untracked_is_the_memory_of_the_process(recorded):
    """The total is what was resident; more only where the estimate is above it: never in the first snapshots."""
    held, leaked = Profile(recorded.held), Profile(recorded.leaked)
    for profile in (held, leaked):
        assert sum(s.values["inuse_space"] for s in profile.samples if s.names == ["[allocated before attach]"]) == 0
    grown = leaked.total("inuse_space") - held.total("inuse_space")
    # 24 MB were leaked, by 370 samples: 5 sigma are 26 %, and where untracked memory covers it the error is none.
    assert 0.7 * 24e6 < grown < 1.3 * 24e6


def test_traces_and_tree_of_go_pprof(recorded, go_pprof):
    assert "leak" in go_pprof("-traces", recorded.leaked).stdout
    assert "leak" in go_pprof("-tree", "-inuse_objects", recorded.leaked).stdout


def test_difference_shows_the_leak(recorded, cprofiler, go_pprof):
    """In go tool pprof, and in our report, which leaves untracked memory out."""
    theirs = checks.top_rows(go_pprof("-top", "-cum", f"-diff_base={recorded.held}", recorded.leaked).stdout)
    names = [name for _, _, name in theirs]
    assert "leak" in names, theirs
    text = cprofiler("report", "--base", recorded.held, recorded.leaked, check=True).stdout.decode()
    rows = [line.split() for line in text[text.index("flat+-"):].splitlines()[1:]]
    assert rows[0][-1] == "hold" and float(rows[0][5].rstrip("%?")) < 20, text
    assert any(row[-1] == "leak" for row in rows) and not any(row[-1] == "keep" for row in rows), text
    assert not REMARKS & {line.split("  ")[-1] for line in text[text.index("flat+-"):].splitlines()}, text


def test_report_shows_all_types_with_errors(recorded, cprofiler):
    for kind, _ in TYPES:
        text = cprofiler("report", "--type", kind, recorded.leaked, check=True).stdout.decode()
        assert f"Type: {kind}" in text and re.search(r"^ *\S+ +\S+% +\S+% +\S+ +\S+% +[\d.]+% .* hold$", text, re.M), text


def test_33_merging_with_the_cpu_profile_is_refused_and_with_its_like_works(recorded, go_pprof):
    merged = go_pprof("-proto", "-output", recorded.folder / "merged", recorded.held, recorded.leaked)
    assert merged.returncode == 0
    assert Profile(recorded.folder / "merged").total("alloc_space") == \
        Profile(recorded.held).total("alloc_space") + Profile(recorded.leaked).total("alloc_space")
    checks.check_structure(Profile(recorded.cpu), recorded.cpu.read_bytes())
