"""Attach to a busy redis-server: its clients see no error, and what it costs is printed."""
import shutil
import socket
import subprocess
import time

import pytest

from harness import processes, quality
from harness.pprof import Profile

CLIENTS = 50
SECONDS = 10
REQUESTS = 150000


@pytest.fixture
def redis(tmp_path):
    """A redis-server on a free loopback port: (process, port)."""
    if not shutil.which("redis-server") or not shutil.which("redis-benchmark"):
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
               "--dir", str(tmp_path), "--daemonize", "no"]
    with processes.running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        def answers():
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0
        assert processes.wait_until(answers)
        yield server, port


def throughput(port, requests=REQUESTS):
    """Requests per second of one benchmark run. Fails on any client error."""
    done = subprocess.run(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", str(CLIENTS), "-n",
                           str(requests), "-t", "set,get", "-d", "100", "-r", "10000", "--csv"],
                          check=True, text=True, timeout=120, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    rates = [float(line.split(",")[1].strip('"')) for line in done.stdout.splitlines()[1:]]
    text = (done.stdout + done.stderr).lower()
    assert len(rates) == 2 and "error" not in text and "could not connect" not in text, text
    return 2 / sum(1 / rate for rate in rates)


def test_busy_redis_is_profiled_for_10_s_and_its_clients_notice_nothing(cprofiler, redis, tmp_path, figure):
    server, port = redis
    file, rates = tmp_path / "redis.pprof", {"alone": [], "profiled": []}
    throughput(port, 30000)
    rates["alone"].append(throughput(port))
    recorder = cprofiler.start("record", "-o", file, "-d", SECONDS, "-p", server.pid)
    end = time.monotonic() + SECONDS
    time.sleep(0.3)
    while time.monotonic() < end - 2.5 or not rates["profiled"]:
        rates["profiled"].append(throughput(port))
    _, errors = recorder.communicate(timeout=60)
    assert recorder.returncode == 0, errors
    rates["alone"].append(throughput(port))
    for number in range(2):
        with processes.running(cprofiler.argv("record", "-o", tmp_path / f"more{number}", "-d", "30", "-q",
                                              "-p", server.pid)):
            time.sleep(0.3)
            rates["profiled"].append(throughput(port))
        rates["alone"].append(throughput(port))
    best = {k: sorted(v)[len(v) // 2] for k, v in rates.items()}
    ratio = best["profiled"] / best["alone"]
    profile = Profile(file)
    figure(f"redis: throughput profiled / unprofiled = {ratio:.3f} (medians of {len(rates['profiled'])} and "
           f"{len(rates['alone'])} runs, interleaved), complete {quality.complete_share(profile):.2%}")
    assert ratio >= 0.80
    assert server.poll() is None
    assert quality.complete_share(profile) >= 0.99
    assert profile.duration_seconds == pytest.approx(SECONDS, rel=0.05)
    assert any("aeMain" in s.names or "aeProcessEvents" in s.names for s in profile.samples) or \
        all("redis" not in f.mapping_file or "+0x" in f.name for s in profile.samples for f in s.frames)
