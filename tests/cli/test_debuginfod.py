"""Debug files from a server: only when asked for, only the right ones, never for longer than allowed."""
import contextlib
import http.server
import os
import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from harness import elf, processes, recording
from harness.paths import ROOT
from harness.pprof import Profile

SOURCE = ROOT / "tests" / "cli" / "programs" / "where.c"
SPIN_MS = "300"


class Server(http.server.ThreadingHTTPServer):
    """Serves .files (path -> bytes); .requests are the paths asked for. A .hanging one answers nobody."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.requests = {}, []
        self.hanging, self.let_go = False, threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self):  # noqa: N802  pylint: disable=invalid-name
        """Answers with a file or 404."""
        self.server.requests.append(self.path)
        if self.server.hanging:
            self.server.let_go.wait(300)
            return
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content or b"")

    def log_message(self, *_args):  # pylint: disable=arguments-differ
        """Says nothing."""


@pytest.fixture(name="server")
def make_server():
    """A server of debug files on a port of this machine."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.let_go.set()
        server.shutdown()
        thread.join()


@pytest.fixture(name="environment")
def make_environment(server, tmp_path):
    """The environment that names the server."""
    return {**os.environ, "DEBUGINFOD_URLS": f"http://127.0.0.1:{server.server_port}",
            "DEBUGINFOD_CACHE_PATH": str(tmp_path / "cache"), "no_proxy": "127.0.0.1"}


@pytest.fixture(name="program")
def make_program(tmp_path):
    """A stripped program, and what the server has to give for it: (program, request path, bytes)."""
    program, debug = tmp_path / "app", tmp_path / "app.debug"
    subprocess.run(["gcc", "-g", "-O1", "-DFUNCTION=real_work", "-Wl,--build-id", "-o", program, SOURCE],
                   check=True, timeout=60)
    notes = subprocess.run(["readelf", "-n", program], check=True, timeout=60, text=True,
                           stdout=subprocess.PIPE).stdout
    subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True, timeout=60)
    subprocess.run(["strip", program], check=True, timeout=60)
    build_id = notes.split("Build ID:")[1].split()[0]
    content = debug.read_bytes()
    debug.unlink()
    return program, f"/buildid/{build_id}/debuginfo", content


def named(profile):
    """Number of samples in the program's function, by its name."""
    return sum(s.values["samples"] for s in profile.samples if "real_work" in s.names)


def total(profile):
    """Number of samples."""
    return sum(s.values["samples"] for s in profile.samples)


def test_nothing_is_asked_without_the_option(cprofiler, server, environment, program, tmp_path):
    """The variable alone, which a login shell of Debian may set, sends nothing anywhere."""
    server.files[program[1]] = program[2]
    got = recording.record(cprofiler, tmp_path, [program[0], SPIN_MS], env=environment)
    assert not server.requests
    assert named(got.profile) == 0


def test_missing_debug_file_is_fetched(cprofiler, server, environment, program, tmp_path):
    """Names and lines come with it; the second time they come from the cache."""
    server.files[program[1]] = program[2]
    for _ in range(2):
        got = recording.record(cprofiler, tmp_path, [program[0], SPIN_MS], flags=["--debuginfod"],
                               env=environment)
        assert named(got.profile) > 0.8 * total(got.profile)
        assert {frame.line for s in got.profile.samples for frame in s.frames
                if frame.name == "real_work"} - {0}
        assert got.summary["debuginfod"]["files"] >= 1
        assert server.requests.count(program[1]) == 1


def test_symbolize_fetches_too(cprofiler, server, environment, program, tmp_path):
    """What was recorded without names gets them from a server, when asked for."""
    server.files[program[1]] = program[2]
    got = recording.record(cprofiler, tmp_path, [program[0], SPIN_MS], flags=["--no-symbolize"],
                           env=environment)
    cprofiler("symbolize", got.file, env=environment, check=True)
    assert not server.requests and named(Profile(got.file)) == 0
    cprofiler("symbolize", "--debuginfod", got.file, env=environment, check=True)
    assert named(Profile(got.file)) > 0.8 * total(got.profile)


def test_symbolize_needs_nothing_but_the_server(cprofiler, server, environment, program, tmp_path):
    """Where the program itself is not, its debug file alone gives names and lines."""
    server.files[program[1]] = program[2]
    got = recording.record(cprofiler, tmp_path, [program[0], SPIN_MS], flags=["--no-symbolize"],
                           env=environment)
    program[0].unlink()
    said = cprofiler("symbolize", "--debuginfod", got.file, env=environment, check=True).stderr
    assert named(Profile(got.file)) > 0.8 * total(got.profile), said
    assert re.search(rb"debuginfod: [1-9]\d* files?, \d+ not there", said), said


def test_symbolize_takes_an_executable_where_no_debug_file_is(cprofiler, server, environment, tmp_path):
    """Its symbol table names, where neither it nor its debug file is here; that of another build does not."""
    program = tmp_path / "app"
    command = ["gcc", "-O1", "-DFUNCTION=real_work", "-Wl,--build-id", "-o", program, SOURCE]
    subprocess.run(command, check=True, timeout=60)
    debug, executable = (f"/buildid/{elf.build_id(program)}/{kind}" for kind in ("debuginfo", "executable"))
    got = recording.record(cprofiler, tmp_path, [program, SPIN_MS], flags=["--no-symbolize"], env=environment)
    content = program.read_bytes()
    subprocess.run([*command, "-O2", "-DOTHER"], check=True, timeout=60)
    server.files[executable] = program.read_bytes()
    program.unlink()
    cprofiler("symbolize", "--debuginfod", got.file, env=environment)
    assert [x for x in server.requests if x in (debug, executable)] == [debug, executable]
    assert named(Profile(got.file)) == 0
    server.files[executable] = content
    shutil.rmtree(tmp_path / "cache")
    said = cprofiler("symbolize", "--debuginfod", got.file, env=environment, check=True).stderr
    assert named(Profile(got.file)) > 0.8 * total(got.profile), said


def test_wrong_file_is_refused(cprofiler, server, environment, program, tmp_path):
    """What comes under the right name must have the right build-id."""
    other = tmp_path / "other"
    subprocess.run(["gcc", "-g", "-O1", "-DFUNCTION=real_work", "-DOTHER", "-O2", "-Wl,--build-id", "-o",
                    other, SOURCE], check=True, timeout=60)
    server.files[program[1]] = other.read_bytes()
    got = recording.record(cprofiler, tmp_path, [program[0], SPIN_MS], flags=["--debuginfod"],
                           env=environment)
    assert program[1] in server.requests
    assert named(got.profile) == 0


def test_time_limit_ends_fetching(cprofiler, server, environment, program, tmp_path):
    """A server that never answers costs --symbol-timeout, not the 90 s that the library would wait."""
    server.hanging = True
    got = recording.record(cprofiler, tmp_path, [program[0], SPIN_MS], env=environment, timeout=60,
                           flags=["--debuginfod", "--symbol-timeout=1"])
    assert len(server.requests) == 1
    assert got.profile.samples and named(got.profile) == 0


def test_interrupt_ends_fetching_and_keeps_the_profile(cprofiler, server, environment, program, tmp_path):
    """The first Ctrl-C goes on without the file, even when one ended the recording before."""
    server.hanging = True
    file = tmp_path / "cpu.pprof"
    with cprofiler.start("record", "-o", file, "--debuginfod", "--", program[0], SPIN_MS,
                         env=environment) as process:
        assert processes.wait_until(lambda: server.requests, seconds=60)
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 0, stderr
    assert b"debuginfod: 0 debug files" in stderr and b"stopped" in stderr, stderr
    assert Path(file).exists()


def test_no_server_is_told_before_recording(cprofiler, environment, program, tmp_path):
    """Not after the command has run."""
    del environment["DEBUGINFOD_URLS"]
    done = cprofiler("record", "-o", tmp_path / "cpu.pprof", "--debuginfod", "--", "touch",
                     tmp_path / "has-run", env=environment)
    assert done.returncode == 2
    assert b"DEBUGINFOD_URLS" in done.stderr and b"export DEBUGINFOD_URLS=" in done.stderr
    assert not (tmp_path / "has-run").exists() and program[0].exists()


def test_debug_dir_is_searched(cprofiler, program, tmp_path):
    """--debug-dir has the layout of /usr/lib/debug; several are separated by colons."""
    build_id = program[1].split("/")[2]
    path = tmp_path / "debug" / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    path.parent.mkdir(parents=True)
    path.write_bytes(program[2])
    got = recording.record(cprofiler, tmp_path, [program[0], SPIN_MS], cwd=tmp_path,
                           flags=["--debug-dir", f"{tmp_path}:debug"])
    assert named(got.profile) > 0.8 * total(got.profile)
    path.rename(tmp_path / "debug" / "app.debug")
    got = recording.record(cprofiler, tmp_path, [program[0], SPIN_MS], flags=["--debug-dir",
                                                                             tmp_path / "debug"])
    assert named(got.profile) > 0.8 * total(got.profile)
    done = cprofiler("record", "--debug-dir", "/nonexistent", "--", "true")
    assert done.returncode == 1 and b"is no directory" in done.stderr
