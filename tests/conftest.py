"""Fixtures, the C tests as items, one time limit for each test, and the closing line.

Environment: O (build folder), CPROFILER (program under test), GO, FUZZ_SECONDS, TEST_SECONDS.
"""
import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness import pprof, together, unit_items, workloads
from harness.paths import ROOT, build_dir, cprofiler_path, find_go

DEFAULT_TEST_SECONDS = 300
TURN = pytest.StashKey()


def pytest_configure(config):
    # A shell starts what it puts into the background with these ignored; tests send or expect them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    # One cache for all that build Go programs: the run-time library is compiled once.
    os.environ.setdefault("GOCACHE", str(build_dir() / "tests" / "gocache"))
    config.addinivalue_line("markers", "limit(seconds): time limit of one test")
    if hasattr(config, "workerinput"):  # one of several workers of `pytest -n`
        config.stash[TURN] = together.Turn()


def pytest_collect_file(file_path, parent):
    return unit_items.collect_file(file_path, parent)


def pytest_collection_modifyitems(items):
    together.sort(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return together.make_scheduler(config, log)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Waits until the test may run, which is no part of its time."""
    turn = item.config.stash.get(TURN, None)
    if turn:
        turn.take(item.nodeid)
    yield
    if turn:
        turn.give()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """A test that hangs fails by itself."""
    marker = item.get_closest_marker("limit")
    seconds = marker.args[0] if marker else int(os.environ.get("TEST_SECONDS", DEFAULT_TEST_SECONDS))

    def too_late(_signal, _frame):
        raise TimeoutError(f"the test took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pytest_terminal_summary(terminalreporter):
    """What tests have measured (fixture `figure`)."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])]
    texts = [text for r in reports for name, text in getattr(r, "user_properties", []) if name == "figure"]
    if texts:
        terminalreporter.section("measured")
        for text in texts:
            terminalreporter.write_line(text)


def pytest_unconfigure(config):
    """The single closing line, after all that pytest prints itself."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.collectonly:
        return
    count = {k: len([r for r in v if getattr(r, "count_towards_summary", True)])
             for k, v in reporter.stats.items()}
    failed = count.get("failed", 0) + count.get("error", 0) + count.get("xpassed", 0)
    skipped = count.get("skipped", 0) + count.get("xfailed", 0)
    print(f"{count.get('passed', 0)} passed, {failed} failed, {skipped} skipped", flush=True)


class Program:
    """The program under test. Call it with arguments; the finished process comes back."""

    def __init__(self, path):
        self.path = str(path)

    def __call__(self, *args, timeout=120, check=False, **options):
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(self.argv(*args), timeout=timeout, check=False, **options)
        if check and done.returncode:
            raise AssertionError(f"{self.argv(*args)} ended with {done.returncode}:\n"
                                 f"{(done.stderr or b'')[-4000:]!r}")
        return done

    def argv(self, *args):
        """The whole command line."""
        return [self.path, *map(os.fspath, map(_plain, args))]

    def start(self, *args, **options):
        """Starts it and returns the running process; stderr is a pipe unless told otherwise."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen(self.argv(*args), **options)


def _plain(arg):
    return arg if isinstance(arg, (str, bytes, os.PathLike)) else str(arg)


@pytest.fixture(scope="session")
def cprofiler():
    """The program under test."""
    path = cprofiler_path()
    assert path.exists(), f"{path} is not built: run `make`"
    return Program(path)


@pytest.fixture(scope="session")
def without_bpf():
    """The program built without BPF, as `make check` does; up to date already, mostly."""
    folder = build_dir() / "nobpf"
    subprocess.run(["make", "--no-print-directory", "-s", f"O={folder}", "BPF=0", "WERROR=1", "all"], cwd=ROOT,
                   check=True, timeout=600, stdout=subprocess.DEVNULL)
    return Program(folder / "cprofiler")


@pytest.fixture(scope="session")
def workload():
    """workload(NAME): path of a program that knows its answer, built when needed."""
    def get(name):
        try:
            return workloads.build(name)
        except workloads.CannotBuild as why:
            if name == "bits32":
                pytest.skip(f"this compiler builds no 32-bit programs: {str(why)[-200:]}")
            raise
    return get


@pytest.fixture
def read_profile():
    """read_profile(FILE): the profile as an independent parser sees it (harness.pprof.Profile)."""
    return pprof.Profile


@pytest.fixture
def pprof_top(tmp_path):
    """pprof_top(FILE, *FLAGS): what the real `go tool pprof -top` prints."""
    if not find_go():
        pytest.skip("go is not installed")
    return lambda file, *flags: pprof.go_pprof("-top", *flags, file, tmp=tmp_path / "pprof").stdout


@pytest.fixture
def go_pprof(tmp_path):
    """go_pprof(*ARGS): runs the real `go tool pprof`, gives the finished process."""
    if not find_go():
        pytest.skip("go is not installed")
    return lambda *args, **options: pprof.go_pprof(*args, tmp=tmp_path / "pprof", **options)


@pytest.fixture
def figure(record_property):
    """figure(TEXT): shows a measurement at the end of the run, whether the test passes or not."""
    return lambda text: record_property("figure", text)


@pytest.fixture
def open_dir(tmp_path):
    """A temporary folder that every user may enter and write, for tests that drop privileges."""
    folder = tmp_path
    while folder != folder.parent and "pytest-of" in str(folder):
        folder.chmod(folder.stat().st_mode | 0o755)
        folder = folder.parent
    tmp_path.chmod(0o1777)
    return tmp_path


@pytest.fixture
def paranoid():
    """paranoid(LEVEL) sets kernel.perf_event_paranoid; what it was comes back afterwards."""
    file = Path("/proc/sys/kernel/perf_event_paranoid")
    before = file.read_text(encoding="ascii")
    yield lambda level: file.write_text(f"{level}\n", encoding="ascii")
    file.write_text(before, encoding="ascii")


@pytest.fixture(scope="session")
def build_folder():
    """The build folder, $O."""
    return build_dir()
