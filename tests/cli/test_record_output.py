"""Where the profile goes: whole or not at all, in place where it must be, refused before anything runs."""
import json
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness import processes
from harness.messages import assert_refused
from harness.pprof import Profile

OLD = b"an older profile"


@pytest.fixture
def marker(tmp_path):
    """A command that leaves a file behind when it runs: (command, file)."""
    file = tmp_path / "the-command-ran"
    return ["touch", file], file


@pytest.fixture
def rescue():
    """A folder with a short name, given as TMPDIR: (folder, environment)."""
    with tempfile.TemporaryDirectory(prefix="keep", dir="/tmp") as folder:
        yield Path(folder), {**os.environ, "TMPDIR": folder}


def test_full_device_is_refused_with_its_cause(cprofiler, workload, rescue):
    folder, environment = rescue
    done = cprofiler("record", "-q", "-o", "/dev/full", "--", workload("shares"), "0.3", env=environment)
    assert done.returncode == 1
    assert b"/dev/full" in done.stderr and b"No space left" in done.stderr
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode), "the device was replaced by a file"
    kept = list(folder.iterdir())
    assert len(kept) == 1 and os.fsencode(kept[0]) in done.stderr


@pytest.mark.parametrize("kind", ["directory", "missing", "below-a-file", "empty", "minus"])
def test_useless_output_is_refused_before_the_command_runs(cprofiler, tmp_path, marker, kind):
    command, ran = marker
    (tmp_path / "file").write_text("x")
    output = {"directory": tmp_path, "missing": tmp_path / "no" / "such" / "p",
              "below-a-file": tmp_path / "file" / "p", "empty": "", "minus": "-"}[kind]
    done = cprofiler("record", "-o", output, "--", *command, cwd=tmp_path)
    assert_refused(done, *([str(output)] if len(str(output)) > 1 else []), status=done.returncode)
    assert done.returncode == (2 if kind == "minus" else done.returncode) and done.returncode in (1, 2)
    assert not ran.exists()


def test_read_only_directory_is_refused_for_others_than_root(cprofiler, open_dir):
    program = shutil.copy(cprofiler.path, open_dir / "cprofiler")
    folder = open_dir / "closed"
    folder.mkdir(mode=0o755)
    done = subprocess.run([program, "record", "-o", str(folder / "p"), "--", "touch", str(open_dir / "ran")],
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          preexec_fn=processes.become_nobody if os.getuid() == 0 else lambda: folder.chmod(0o555))
    assert_refused(done, str(folder), "ermission denied")
    assert not (open_dir / "ran").exists()


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system with room for 16 KB."""
    if os.getuid() != 0:
        pytest.skip("mounting a tiny file system needs root")
    folder = tmp_path / "tiny"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=777", "tmpfs", str(folder)], check=False,
                          stderr=subprocess.PIPE, timeout=20)
    if done.returncode:
        pytest.skip(f"this container mounts no tmpfs: {done.stderr!r}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=20)


def test_full_disk_loses_nothing_and_says_so(cprofiler, tiny_disk, rescue):
    keep, environment = rescue
    (tiny_disk / "old").write_bytes(OLD)
    (tiny_disk / "filler").write_bytes(b"x" * 8192)
    done = cprofiler("record", "-q", "-F", "2000", "-o", tiny_disk / "old", "--", "/usr/bin/python3", "-c",
                     "import json, re, decimal, argparse, random\nfor i in range(400000): str(i) + hex(i)",
                     env=environment)
    text = done.stderr.decode()
    assert done.returncode == 1 and "No space left" in text and str(tiny_disk / "old") in text
    assert (tiny_disk / "old").read_bytes() == OLD
    assert sorted(p.name for p in tiny_disk.iterdir()) == ["filler", "old"]
    kept = list(keep.iterdir())
    assert len(kept) == 1 and str(kept[0]) in text, "what was recorded is lost"
    assert Profile(kept[0]).total() > 0


def test_old_file_stays_when_the_command_cannot_start(cprofiler, tmp_path):
    (tmp_path / "p").write_bytes(OLD)
    done = cprofiler("record", "-o", tmp_path / "p", "--", "/no/such/command")
    assert done.returncode != 0
    assert (tmp_path / "p").read_bytes() == OLD
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_old_file_is_replaced_as_a_whole(cprofiler, workload, tmp_path):
    (tmp_path / "p").write_bytes(OLD * 100000)
    cprofiler("record", "-o", tmp_path / "p", "--", workload("shares"), "0.3", check=True)
    assert Profile(tmp_path / "p").total() > 0
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_umask_is_respected(cprofiler, tmp_path, umask, mode):
    cprofiler("record", "-o", tmp_path / "p", "--", "true", check=True, preexec_fn=lambda: os.umask(umask))
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == mode


def test_symbolic_link_is_followed(cprofiler, tmp_path):
    (tmp_path / "real").write_bytes(OLD)
    (tmp_path / "p").symlink_to("real")
    cprofiler("record", "-o", tmp_path / "p", "--", "true", check=True)
    assert (tmp_path / "p").is_symlink()
    assert Profile(tmp_path / "real").types


def test_dev_null_is_written_in_place(cprofiler, workload):
    cprofiler("record", "-o", "/dev/null", "--", workload("shares"), "0.3", check=True)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_fifo_is_written_in_place(cprofiler, workload, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as pipe:  # a profile this small fits into it
        cprofiler("record", "-o", fifo, "--", workload("shares"), "0.5", check=True)
        (tmp_path / "copy").write_bytes(pipe.read())
    assert Profile(tmp_path / "copy").total() > 0
    assert stat.S_ISFIFO(os.stat(fifo).st_mode)


def test_relative_name_is_below_our_directory_not_the_commands(cprofiler, tmp_path):
    cprofiler("record", "-o", "here.pprof", "--", "sh", "-c", "cd /; true", cwd=tmp_path, check=True)
    assert Profile(tmp_path / "here.pprof").types


def test_default_name_does_not_overwrite_by_accident(cprofiler, tmp_path):
    for _ in range(2):
        cprofiler("record", "--", "true", cwd=tmp_path, check=True)
    assert len(list(tmp_path.iterdir())) == 2


def test_own_memory_is_not_that_of_who_started_us(cprofiler, tmp_path):
    """ru_maxrss lives through execve(2): a large caller must not show as our cost."""
    ballast = bytearray(b"x") * (300 << 20)
    done = cprofiler("record", "-o", tmp_path / "p", f"--json={tmp_path / 'json'}", "--", "true", check=True,
                     preexec_fn=lambda: None)
    assert len(ballast) and done.returncode == 0
    peak = json.loads((tmp_path / "json").read_text())["cost"]["peak_rss_bytes"]
    assert 1 << 20 < peak < 150 << 20
