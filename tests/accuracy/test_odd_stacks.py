"""Stacks that are not as a compiler's manual has them: without tables, made by hand, of another libc."""
import shutil
import subprocess
from collections import Counter

import pytest

from harness import workloads
from harness.recording import record

SECONDS = 0.5
SHARE = 0.98  # of some 250 samples; a few hit before main, or in the child before its first instruction
NO_TABLES = ["-O2", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]


def build(folder, *flags, compiler="gcc"):
    target = folder / "nounwind"
    assert shutil.which(compiler), f"{compiler} is not installed"
    subprocess.run([compiler, *flags, "-o", target, workloads.SOURCES / "nounwind.c"], check=True, timeout=60)
    return target


def chains(recording):
    """{names of the user frames, leaf first: samples}"""
    out = Counter()
    for s in recording.profile.samples:
        names = tuple(f.name for f in s.frames if not f.is_kernel and f.name != "[kernel]")
        out[names] += s.values["samples"]
    return out


def share(counts, is_good):
    """Share of the samples in burn_leaf whose chain is good; there are enough of them."""
    inside = {names: n for names, n in counts.items() if names[:1] == ("burn_leaf",)}
    assert sum(inside.values()) > 60, counts.most_common(5)
    return sum(n for names, n in inside.items() if is_good(names)) / sum(inside.values())


def is_whole(names):
    """Nine frames between the leaf and main, or the leaf in a child; then the way to the entry point."""
    depth = names.count("descend")
    return depth in (0, 9) and names[1 + depth:2 + depth] == ("main",) and names[-1] == "_start"


@pytest.mark.parametrize("how", ["none", "zlib", "zlib-gnu", "zstd"])
def test_debug_frame_alone_is_enough_compressed_or_not(cprofiler, tmp_path, how):
    target = build(tmp_path, *NO_TABLES, "-g", "-gz=none", "-fomit-frame-pointer")
    subprocess.run(["objcopy", f"--compress-debug-sections={how}", target], check=True, timeout=30)
    counts = chains(record(cprofiler, tmp_path, [target, SECONDS]))
    assert share(counts, is_whole) >= SHARE, counts.most_common(5)


def test_frame_pointers_alone_are_enough(cprofiler, tmp_path):
    counts = chains(record(cprofiler, tmp_path, [build(tmp_path, *NO_TABLES, "-fno-omit-frame-pointer"), SECONDS]))
    assert share(counts, is_whole) >= SHARE, counts.most_common(5)


def test_without_tables_and_frame_pointers_the_stack_ends_and_says_so(cprofiler, tmp_path):
    """The caller of the leaf is found; whatever comes then is true or the reason, never an invention."""
    counts = chains(record(cprofiler, tmp_path, [build(tmp_path, *NO_TABLES, "-fomit-frame-pointer"), SECONDS]))
    said = [("burn_leaf", "descend", "[no unwind info]"), ("burn_leaf", "main", "[no unwind info]")]
    assert share(counts, lambda names: names in said or is_whole(names)) >= SHARE, counts.most_common(5)
    assert share(counts, lambda names: names[1] in ("descend", "main")) >= SHARE, counts.most_common(5)


@pytest.mark.parametrize("flags", [["-static"], []], ids=["static", "dynamic"])
def test_programs_on_musl_are_complete(cprofiler, tmp_path, flags):
    """musl has no unwind tables: from main to the entry point there are none."""
    target = build(tmp_path, "-O2", *flags, compiler="musl-gcc")
    counts = chains(record(cprofiler, tmp_path, [target, SECONDS]))
    assert share(counts, is_whole) >= SHARE, counts.most_common(5)


def test_stack_of_a_coroutine_is_complete(cprofiler, workload, tmp_path):
    """makecontext writes the outermost return address by hand."""
    counts = chains(record(cprofiler, tmp_path, [workload("coroutine"), SECONDS]))
    inside = {names: n for names, n in counts.items() if "burn_inside" in names}
    whole = sum(n for names, n in inside.items()
                if names[-7:] == ("burn_inside",) * 5 + ("coroutine", "__start_context"))
    print(Counter(inside).most_common(3))
    assert sum(inside.values()) > 100
    assert whole >= SHARE * sum(inside.values()), Counter(inside).most_common(5)
