"""`cprofiler report` of heap profiles: errors of the sampling, and what grew between two snapshots."""
import math
import re

import pytest

from harness.heap_profile import RATE, HeapProfile
from harness.messages import assert_refused
from pprof_checks import check_27_heap_types, top_rows
from harness.pprof import Profile

BEFORE, UNTRACKED = "[allocated before attach]", "[untracked]"


def sampled(size, number, rate=RATE):
    """(objects, bytes) that `number` samples of objects of `size` bytes stand for."""
    weight = -1 / math.expm1(-size / rate)
    return round(number * weight), round(number * weight * size)


def add(profile, stack, size, number, in_use=None, **labels):
    """Adds `number` samples of a stack, of which `in_use` (all) are in use."""
    rate = labels.get("rate", RATE)
    in_use = number if in_use is None else in_use
    profile.add(stack, [*sampled(size, number, rate), *sampled(size, in_use, rate)], bytes=size, **labels)


def report(cprofiler, *args):
    return cprofiler("report", *args, check=True).stdout.decode()


def rows(text):
    """{function: (flat, cum, error of flat, error of cum)} of our table."""
    row = re.compile(r"^ *(\S+) +[\d.e-]+% +[\d.e-]+% +(\S+) +[\d.e-]+% +(\S+) +(\S+)  (.*)$", re.M)
    return {name: (flat, cum, flat_error, cum_error) for flat, cum, flat_error, cum_error, name in row.findall(text)}


@pytest.fixture(name="snapshot")
def make_snapshot(tmp_path):
    """A heap with little and much, small and large, sampled and not."""
    profile = HeapProfile()
    add(profile, "many main", 64, 400, pid=7)
    add(profile, "few main", 64, 4, pid=7)
    add(profile, "large main", 100 << 20, 1, pid=7)
    add(profile, "doubled main", 64, 25, pid=7, rate=2 * RATE)
    add(profile, "freed main", 64, 100, 0, pid=7)
    profile.add([UNTRACKED], [0, 0, 0, 50 << 20])
    return profile.write(tmp_path / "heap.pprof")


def test_default_is_what_is_in_use_with_errors(cprofiler, snapshot):
    text = report(cprofiler, snapshot)
    table = rows(text)
    assert "Type: inuse_space" in text
    assert table["many"][2:] == ("5.0%", "5.0%")
    assert table["few"][2:] == ("50%?", "50%?")
    assert table["large"][2:] == ("0.0%", "0.0%"), "the sampling cannot have missed it"
    assert table["doubled"][2] == "20%"
    assert table[UNTRACKED][2:] == ("-", "-")
    assert "freed" not in table
    # Errors add up as variances do: 404 samples of half a megabyte, 25 of a whole one, and 100 MB for certain.
    bytes_in_use = 404 * RATE + 25 * 2 * RATE + (100 << 20)
    error = math.sqrt(404 * RATE ** 2 + 25 * 4 * RATE ** 2) / bytes_in_use
    assert table["main"][0] == "0" and table["main"][2] == "-"
    assert table["main"][3] == f"{100 * error:.1f}%"
    assert "fewer than 10 samples" in text


@pytest.mark.parametrize("kind", ["inuse_objects", "alloc_space", "alloc_objects", "0"])
def test_other_types_have_errors_as_well(cprofiler, snapshot, kind):
    table = rows(report(cprofiler, "--type", kind, snapshot))
    assert table["many"][2] == "5.0%"
    assert ("freed" in table) == (kind not in ("inuse_objects",))


@pytest.mark.parametrize("kind", ["inuse_space", "inuse_objects", "alloc_space", "alloc_objects"])
@pytest.mark.parametrize("flags", [[], ["--cum"]])
def test_table_is_that_of_go_pprof_but_for_the_errors(cprofiler, go_pprof, snapshot, kind, flags):
    ours = rows(report(cprofiler, "--type", kind, *flags, snapshot))
    theirs = top_rows(go_pprof("-top", f"-{kind}", *[f[1:] for f in flags], snapshot).stdout)
    assert [(flat, cum, name) for name, (flat, cum, _, _) in ours.items()] == theirs


def test_profile_without_a_size_label_is_judged_by_its_mean(cprofiler, tmp_path):
    profile = HeapProfile()
    profile.add("f main", [*sampled(64, 100), *sampled(64, 100)])
    assert rows(report(cprofiler, profile.write(tmp_path / "p")))["f"][2] == "10%"


def test_no_errors_where_nothing_was_sampled(cprofiler, tmp_path):
    """A heap profile of rate 1 knows every object."""
    profile = HeapProfile(rate=1)
    profile.add("f main", [1, 64, 1, 64])
    text = report(cprofiler, profile.write(tmp_path / "p"))
    assert "+-" not in text


@pytest.fixture(name="two")
def make_two(tmp_path):
    """Two snapshots of one process: something leaks, something shrinks, something stays."""
    first, last = HeapProfile(), HeapProfile(time_ns=10 ** 18 + 10 ** 9)
    for profile, leaked, cached in ((first, 10, 300), (last, 110, 100)):
        add(profile, "leak run main", 64, leaked, pid=7)
        add(profile, "cache run main", 64, cached, pid=7)
        add(profile, "steady main", 64, 900, pid=7)
    first.add([BEFORE], [0, 0, 0, 90 << 20])
    last.add([BEFORE], [0, 0, 0, 30 << 20])
    last.add([UNTRACKED], [0, 0, 0, 7 << 20])
    return first.write(tmp_path / "first.pprof"), last.write(tmp_path / "last.pprof")


def test_growth_comes_first_and_shrinking_last(cprofiler, two):
    text = report(cprofiler, "--base", *two)
    table = rows(text)
    assert [name for name in table if table[name][0] != "0"] == ["leak", "cache"]
    assert table["leak"][:2] == ("50MB", "50MB") or table["leak"][0].startswith("50"), table
    assert table["cache"][0].startswith("-100")
    assert table["run"][1].startswith("-50")
    assert "steady" not in table, "what did not change is left out"
    assert f"Base: {two[0]}" in text
    assert f"Left out: {BEFORE} and {UNTRACKED}, 90MB then, 37MB now" in text
    assert BEFORE not in table and UNTRACKED not in table


def test_samples_of_both_snapshots_are_not_in_error(cprofiler, two, tmp_path):
    """100 new samples: 10 %, however many there were; between two processes all of them count."""
    table = rows(report(cprofiler, "--base", *two))
    assert table["leak"][2] == "10%"
    assert table["cache"][2] == "7.1%"
    assert table["run"][3] == "17%"  # sqrt(300) of 100
    other = HeapProfile()
    add(other, "leak run main", 64, 10, pid=8)
    table = rows(report(cprofiler, "--base", other.write(tmp_path / "other"), two[1]))
    assert table["leak"][2] == "11%"  # sqrt(120) of 100


@pytest.mark.parametrize("kind", ["alloc_space", "alloc_objects", "inuse_objects"])
def test_difference_is_that_of_go_pprof(cprofiler, go_pprof, two, kind):
    """All lines that go tool pprof shows, but for those of zeros; sorted by growth, not by size."""
    ours = rows(report(cprofiler, "--base", two[0], "--type", kind, two[1]))
    theirs = top_rows(go_pprof("-top", f"-{kind}", f"-diff_base={two[0]}", two[1]).stdout)
    ours = [(flat, cum, name) for name, (flat, cum, _, _) in ours.items()]
    assert sorted(ours) == sorted(row for row in theirs if row[:2] != ("0", "0"))
    assert ours[0][2] == "leak" and ours[-1][2] == "cache"


def test_cumulative_growth(cprofiler, two):
    table = list(rows(report(cprofiler, "--cum", "--base", *two)))
    assert table[0] == "leak" and set(table[1:3]) == {"run", "main"} and table[-1] == "cache"


def test_rows_are_limited_from_the_top(cprofiler, two):
    assert list(rows(report(cprofiler, "-n", "1", "--base", *two))) == ["leak"]


def test_a_profile_less_itself_is_nothing(cprofiler, two):
    text = report(cprofiler, "--base", two[1], two[1])
    assert not rows(text)
    assert "Showing nodes accounting for 0, " in text


def test_base_of_another_kind_is_refused(cprofiler, two, tmp_path):
    cpu = HeapProfile()
    del cpu.proto.sample_type[2:]
    cpu.proto.default_sample_type = 0
    cpu.write(tmp_path / "cpu.pprof")
    assert_refused(cprofiler("report", "--base", tmp_path / "cpu.pprof", two[1]), "cpu.pprof", "inuse_space",
                   status=2)
    assert_refused(cprofiler("report", "--base", tmp_path / "no.pprof", two[1]), "no.pprof", "No such file")


def test_cpu_profiles_subtract_as_well(cprofiler, go_pprof, workload, tmp_path):
    """Two runs of a program, one twice as long: the numbers are those of go tool pprof -diff_base."""
    for name, seconds in (("short", "0.3"), ("long", "0.6")):
        cprofiler("record", "-q", "-o", tmp_path / name, "-F", "499", "-d", seconds, "--", workload("throwcatch"),
                  check=True)
    text = report(cprofiler, "--base", tmp_path / "short", tmp_path / "long")
    assert "+-" not in text
    theirs = top_rows(go_pprof("-top", f"-diff_base={tmp_path / 'short'}", tmp_path / "long").stdout)
    assert sorted(top_rows(text)) == sorted(row for row in theirs if row[:2] != ("0", "0"))


def test_nothing_in_use_says_where_to_look(cprofiler, tmp_path):
    profile = HeapProfile()
    add(profile, "freed main", 64, 100, 0)
    done = cprofiler("report", profile.write(tmp_path / "p"), check=True)
    assert done.stderr == b"cprofiler: nothing is in use: --type alloc_space shows who allocates\n"
    done = cprofiler("report", "--type", "alloc_space", tmp_path / "p", check=True)
    assert done.stderr == b"" and b"freed" in done.stdout


def test_snapshot_follows_the_conventions(snapshot):
    check_27_heap_types(Profile(snapshot), RATE)
