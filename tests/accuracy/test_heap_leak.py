"""A leak planted in a real program under load is the first line of what is in use, and of what has grown."""
import re
import shutil
import socket
import subprocess
import sys

import pytest

from harness import heap, processes, workloads
from harness.paths import TESTS

sys.path.insert(0, str(TESTS / "cli"))

import pprof_checks as checks  # noqa: E402

LEAK = "leak_here"


def top_lines(text):
    """[(flat share in percent, function)] of a table as `report`, with its errors, and `go tool pprof -top` print it."""
    rows = re.findall(r"^\s*\S+\s+(-?[\d.]+)%\s+\S+%\s+\S+\s+\S+%(?:\s+(?:[\d.]+%\??|-)(?=\s)){0,2}\s+(.*?)\s*$", text, re.M)
    assert rows, text
    return [(float(share), name) for share, name in rows]


def snapshots(folder, name):
    """The numbered snapshots of a recording, first to last."""
    return sorted(folder.glob(f"{name}.*.pprof"))


def assert_leak_on_top(text):
    """The leak is the first line, far before the second."""
    (share, name), *rest = top_lines(text)
    assert name == LEAK, text
    assert not rest or share > 2 * rest[0][0], text


@pytest.fixture(scope="module")
def leaking(cprofiler, tmp_path_factory):
    """SQLite recorded while one of its SQL functions leaks: (profile, snapshots, bytes that were lost)."""
    folder = tmp_path_factory.mktemp("leak")
    file = folder / "leak.pprof"
    done = cprofiler("record", "-q", "--heap", file, "--heap-budget", "none", "--heap-rate", "4096", "--heap-snapshot", "1",
                     "--", workloads.build("sqlite-leak"), "3.5")
    assert done.returncode == 0, done.stderr
    return file, snapshots(folder, "leak"), workloads.truth_of(done.stdout)["lost_bytes"]


def test_leak_in_sqlite_is_the_first_line(cprofiler, leaking, pprof_top):
    file, _, lost_bytes = leaking
    found = heap.estimates(file, "inuse")[LEAK]
    assert abs(found.off_by(lost_bytes)) < 5
    assert_leak_on_top(cprofiler("report", file, check=True).stdout.decode())
    assert_leak_on_top(pprof_top(file))
    assert_leak_on_top(pprof_top(file, "-inuse_objects"))


def test_leak_in_sqlite_is_what_has_grown(cprofiler, leaking, pprof_top):
    _, taken, _ = leaking
    assert len(taken) >= 3
    first, last = taken[0], taken[-1]
    assert_leak_on_top(cprofiler("report", "--base", first, last, check=True).stdout.decode())
    assert_leak_on_top(pprof_top(f"-diff_base={first}", last))


def test_each_file_is_what_tools_expect(leaking, go_pprof):
    file, taken, _ = leaking
    for path in (file, taken[0]):
        profile = heap.Profile(path)
        checks.check_structure(profile, path.read_bytes())
        checks.check_27_heap_types(profile, 4096)
    checks.check_01_go_pprof_is_silent(go_pprof, file)
    checks.check_27_go_pprof_shows_all(heap.Profile(file), go_pprof, file)


@pytest.fixture
def redis(workload, tmp_path):
    """A redis-server with a module that leaks, on a free loopback port: (process, port)."""
    if not shutil.which("redis-server") or not shutil.which("redis-benchmark"):
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir",
               str(tmp_path), "--daemonize", "no", "--loadmodule", str(workload("redis-leak.so"))]
    with processes.running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        def answers():
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0
        assert processes.wait_until(answers)
        yield server, port


def benchmark(port, *words):
    """Runs redis-benchmark to its good end."""
    done = subprocess.run(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", "10", *words, "--csv"], check=True,
                          text=True, timeout=120, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert "rror" not in done.stdout, done.stdout


def test_leak_in_redis_under_load_is_the_first_line(cprofiler, redis, tmp_path, pprof_top):
    server, port = redis
    file, calls = tmp_path / "redis.pprof", 15000
    with heap.attached(cprofiler, file, server.pid, "--heap-budget", "none", "--heap-rate", "8192") as recorder:
        benchmark(port, "-n", "10000", "-r", "1000", "-d", "200", "-t", "set,get,lpush")
        benchmark(port, "-n", str(calls), "leak.touch")
        recorder.end()
    found = heap.estimates(file, "inuse")
    assert abs(found[LEAK].off_by(700 * calls)) < 5
    assert "use_and_free" not in found
    assert_leak_on_top(cprofiler("report", file, check=True).stdout.decode())
    assert_leak_on_top(pprof_top(file))
    assert server.poll() is None
