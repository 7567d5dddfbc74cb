"""The first minute: whatever a newcomer types, at most 15 lines say what to type."""
import subprocess

import pytest

MAX_LINES = 15


def lines(text):
    return text.decode(errors="replace").splitlines()


@pytest.mark.parametrize("args", [
    [], ["/bin/ls"], ["./app"], ["-p", "1"], ["-p1"], ["record"], ["recrod"], ["reocrd", "--", "ls"], ["ls"],
    ["--freq", "99"], ["-x"], ["record", "--freqency", "99", "--", "true"], ["help", "recrod"], ["report"],
], ids=" ".join)
def test_every_first_attempt_is_told_what_to_type(cprofiler, args):
    done = cprofiler(*args)
    assert done.returncode == 2
    assert done.stdout == b""
    text = lines(done.stderr)
    assert 1 <= len(text) <= MAX_LINES
    assert any("cprofiler " in line for line in text)


@pytest.mark.parametrize("args", [["help"], ["--help"], ["-h"]], ids=" ".join)
def test_help_is_short_and_on_stdout(cprofiler, args):
    done = cprofiler(*args)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "cprofiler record" in done.stdout.decode() and len(lines(done.stdout)) <= MAX_LINES


def test_bare_call_shows_the_three_ways_in(cprofiler):
    text = cprofiler().stderr.decode()
    for part in ("record -o", "record -p", "report"):
        assert part in text


def test_a_program_in_place_of_a_command_is_told_record(cprofiler):
    assert "cprofiler record -- ./app" in cprofiler("./app").stderr.decode()
    assert "cprofiler record -- /bin/ls" in cprofiler("/bin/ls", "-l").stderr.decode()


def test_pid_without_command_is_told_record(cprofiler):
    assert "cprofiler record -p 4242" in cprofiler("-p", "4242").stderr.decode()
    assert "cprofiler record -p 4242" in cprofiler("-p4242").stderr.decode()


@pytest.mark.parametrize("typed, meant", [("recrod", "record"), ("reort", "report"), ("recor", "record"),
                                          ("verison", "version")])
def test_misspelt_command_names_the_nearest(cprofiler, typed, meant):
    assert f"cprofiler {meant}" in cprofiler(typed).stderr.decode()


@pytest.mark.parametrize("typed, meant", [("--freqency", "--frequency"), ("--outptu", "--output"),
                                          ("--no-childern", "--no-children"), ("--duraton", "--duration"),
                                          ("--qiet", "--quiet")])
def test_misspelt_option_names_the_nearest(cprofiler, typed, meant):
    done = cprofiler("record", typed, "--", "true")
    assert done.returncode == 2
    assert typed in done.stderr.decode() and meant in done.stderr.decode()


@pytest.mark.parametrize("command", ["record", "report"])
def test_help_of_a_command_comes_three_ways_and_is_the_same(cprofiler, command):
    texts = {cprofiler(*args, check=True).stdout for args in
             ([command, "--help"], [command, "-h"], ["help", command])}
    assert len(texts) == 1
    assert b"Usage:" in texts.pop()


def test_record_help_names_every_option(cprofiler):
    text = cprofiler("record", "--help", check=True).stdout.decode()
    for option in ("-o", "--output", "-p", "-F", "-d", "--[no-]children", "--[no-]kernel", "--quiet", "--json"):
        assert option in text
    assert all(len(line) <= 110 for line in text.splitlines())


def test_version(cprofiler):
    done = cprofiler("--version", check=True)
    assert done.stdout.startswith(b"cprofiler 0.") and done.stdout == cprofiler("version", check=True).stdout


def test_output_that_cannot_be_written_fails(cprofiler):
    with open("/dev/full", "wb") as full:
        done = cprofiler("--help", stdout=full)
    assert done.returncode == 1 and b"cannot write" in done.stderr


def test_reader_that_goes_away_is_no_drama(cprofiler):
    done = subprocess.run(["sh", "-c", f"{cprofiler.path} record --help | head -1"], check=False, timeout=20,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stdout.count(b"\n") == 1 and done.stderr == b""
