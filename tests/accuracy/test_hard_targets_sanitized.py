"""The whole program under ASan + UBSan ($O/san) on targets that ask much of it."""
import os
import subprocess
import time

import pytest

from harness import processes, programs
from harness.paths import build_dir
from harness.pprof import Profile

CASES = {
    "shares": ["shares", "1"], "200 threads": ["threads", "200", "1"], "children": ["forks", "60", "10", "2"],
    "execself": ["execself", "1", "3"], "noreturn": ["noreturn", "1"], "signals": ["sighandler", "1"],
    "altstack": ["sighandler", "1", "altstack"], "recursion": ["recursion", "1", "3000"],
    "deepstack": ["deepstack", "1"], "throwcatch": ["throwcatch", "1"], "callbacks": ["callbacks", "1"],
    "plugin": ["pluginhost", "1"], "oddname": ["oddname", "1"], "static": ["shares-static", "1"],
    "stripped": ["shares-nosymbols", "1"], "32-bit": ["bits32"],
}
REPORT = (b"Sanitizer", b"runtime error:")


@pytest.fixture
def sanitized():
    """sanitized(*args): runs the program built with sanitizers and fails on any report of theirs."""
    path = build_dir() / "san" / "cprofiler"
    if not path.exists():
        pytest.skip(f"{path} is not built (make check-builds)")
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}

    def run(*args, status=0):
        done = subprocess.run([str(path), *map(str, args)], env=env, check=False, timeout=120,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        text = done.stderr
        assert not any(word in text for word in REPORT), text.decode(errors="replace")[-6000:]
        assert done.returncode == status, text.decode(errors="replace")[-3000:]
        return done
    return run


@pytest.mark.parametrize("case", list(CASES))
def test_no_report_on_a_hard_target(sanitized, workload, tmp_path, case):
    name, *args = CASES[case]
    sanitized("record", "-F", "299", "-o", tmp_path / "p", "--", workload(name), *args)
    assert Profile(tmp_path / "p").total() > 0.2e9
    sanitized("report", tmp_path / "p")


@pytest.mark.parametrize("name", ["sqlite", "gcc", "node"])
def test_no_report_on_a_real_program(sanitized, tmp_path, name):
    if programs.missing(name):
        pytest.skip(programs.missing(name))
    sanitized("record", "-F", "99", "-o", tmp_path / "p", "--", *programs.prepare(name))
    assert Profile(tmp_path / "p").total() > 0.2e9


@pytest.mark.parametrize("engine", ["cpu-wide", "per-task"])
def test_no_report_when_attached(sanitized, workload, tmp_path, engine):
    with processes.running([workload("threads"), "8", "30"], stdout=subprocess.DEVNULL) as target:
        time.sleep(0.2)
        sanitized("record", "--engine", engine, "-d", "1", "-o", tmp_path / "p", "-p", target.pid)


def test_no_report_on_what_is_refused(sanitized, tmp_path):
    sanitized("record", "-o", tmp_path / "p", "--", "/no/such/command", status=127)
    sanitized("record", "-F", "20000", "--", "true", status=2)
    sanitized("record", "-o", "/no/such/folder/p", "--", "true", status=1)
    sanitized("report", "/dev/null", status=1)
