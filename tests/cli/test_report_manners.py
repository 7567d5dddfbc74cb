"""`cprofiler report` as a program: files it cannot read, output it cannot write, words it does not know."""
import gzip
import os
import signal
import stat
import subprocess

import pytest

from harness.messages import assert_refused
from test_report import RandomProfile


@pytest.fixture(scope="module")
def profile_file(tmp_path_factory):
    """A profile with a large table."""
    folder = tmp_path_factory.mktemp("file")
    made = RandomProfile(5)
    for number in range(3000):
        made.profile.function.add(id=10 ** 7 + number, name=made.string(f"function_{number}"))
        made.profile.location.add(id=10 ** 7 + number).line.add(function_id=10 ** 7 + number)
        made.profile.sample.add(location_id=[10 ** 7 + number], value=[10 ** 9] * len(made.profile.sample_type))
    del made.profile.string_table[:]
    made.profile.string_table.extend(made.strings)
    return made.write(folder / "big.pprof")


BROKEN = {
    "empty": (b"", "empty file"),
    "empty gzip": (gzip.compress(b""), "empty file"),
    "text": (b"heap profile: 2: 496 [2: 496] @ heap/1048576\n", "not a pprof profile"),
    "elf": (b"\x7fELF" + bytes(100), "not a pprof profile"),
    "gzipped text": (gzip.compress(b"hello " * 100), "not a pprof profile"),
    "cut gzip": (gzip.compress(bytes(range(256)) * 9)[:200], "truncated gzip"),
    "strings only": (b"\x32\x00\x32\x01a", "not a pprof profile"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_is_told_in_two_lines(cprofiler, tmp_path, kind):
    contents, words = BROKEN[kind]
    (tmp_path / "cpu.pprof").write_bytes(contents)
    done = cprofiler("report", tmp_path / "cpu.pprof")
    assert_refused(done, str(tmp_path / "cpu.pprof"), words)
    assert done.stdout == b""


def test_two_profiles_in_one_file_are_told(cprofiler, tmp_path):
    odd = RandomProfile(5)
    odd.profile.time_nanos = 1
    (tmp_path / "two").write_bytes(2 * odd.profile.SerializeToString())
    assert_refused(cprofiler("report", tmp_path / "two"), "concatenated profiles")


def test_missing_file_is_told(cprofiler, tmp_path):
    assert_refused(cprofiler("report", tmp_path / "no.pprof"), "no.pprof", "No such file")


def test_directory_is_told(cprofiler, tmp_path):
    assert_refused(cprofiler("report", tmp_path), str(tmp_path))


def test_unreadable_file_is_told(cprofiler, open_dir):
    file = open_dir / "secret.pprof"
    file.write_bytes(b"x")
    file.chmod(0)
    program = open_dir / "cprofiler"
    program.write_bytes(open(cprofiler.path, "rb").read())
    program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH | stat.S_IROTH)
    done = subprocess.run([program, "report", file], check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=30, user=65534 if os.geteuid() == 0 else None)
    assert_refused(done, "secret.pprof", "Permission denied")


def test_inflated_size_is_bounded(cprofiler, tmp_path):
    bomb = gzip.compress(b"\x0a\x00" * (1 << 19), 9) * 1100
    (tmp_path / "bomb").write_bytes(bomb)
    done = cprofiler("report", tmp_path / "bomb", timeout=200)
    assert_refused(done, "too large")


@pytest.mark.parametrize("words", [[], ["a", "b"]])
def test_exactly_one_file_is_wanted(cprofiler, words):
    assert_refused(cprofiler("report", *words), "report", status=2)


def test_unknown_type_is_told_with_those_that_exist(cprofiler, profile_file):
    assert_refused(cprofiler("report", "--type", "nonsense", profile_file), "nonsense", "it has:", status=2)


def test_full_output_is_an_error(cprofiler, profile_file):
    with open("/dev/full", "wb") as full:
        done = cprofiler("report", profile_file, stdout=full)
    assert_refused(done, "No space left")


@pytest.mark.parametrize("ignored", [False, True])
def test_reader_that_goes_away_is_no_error(cprofiler, profile_file, ignored):
    before = (lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN)) if ignored else None
    with subprocess.Popen([cprofiler.path, "report", str(profile_file)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, preexec_fn=before) as report:
        report.stdout.read(10)
        report.stdout.close()
        assert report.stderr.read() == b""
        assert report.wait(30) in (0, -signal.SIGPIPE)


def test_flags_may_follow_the_file(cprofiler, profile_file):
    before = cprofiler("report", "--cum", "-n", "3", profile_file, check=True).stdout
    assert cprofiler("report", profile_file, "-n3", "--cum", check=True).stdout == before
    assert len(before.splitlines()) < 12


def test_names_cannot_steer_the_terminal(cprofiler, tmp_path):
    odd = RandomProfile(5)
    odd.profile.comment.append(odd.string("\x1b[31mred\x1b[0m\nsecond line"))
    del odd.profile.string_table[:]
    odd.profile.string_table.extend(odd.strings)
    output = cprofiler("report", odd.write(tmp_path / "evil.pprof"), check=True).stdout
    assert b"\x1b" not in output and "\ufffd[31mred".encode() in output
