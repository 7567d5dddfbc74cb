"""Which tests run beside others, on all CPUs at once, and which have the machine for themselves.

`pytest -n N` (python3-pytest-xdist; `make check` says -n 2 on two CPUs) has N workers. Tests listed in TOGETHER
are spread over them, the long ones first. All other tests watch the clock, the machine or a process from outside:
they come last, one after the other on one worker, and only when nothing else runs. A new test file is
of the second kind until it is listed here. Without -n everything runs one after the other, in the same order.

How: all workers share one lock file. A test of the first kind holds it shared, one of the second kind
exclusively, so that the order in which the scheduler hands out work decides about speed only.
"""
import fcntl
import re

from .paths import TESTS, build_dir

# (pattern of the node id below tests/, what is handed out at once): longest first. One C test program is one
# unit: it runs once for all its items.
TOGETHER = [
    (r"sanitized/test_sanitized.py::test_command_line", "item"),
    (r"lint/test_tools.py::test_clang_tidy", "item"),
    (r"cli/test_(pprof_conformance|pprof_checks|report|report_heap|report_manners|heap_conformance|first_contact|"
     r"record_launch|record_attach|record_output|record_heap|errors|jit|symbolize)\.py::", "file"),
    (r"harm/", "item"),
    (r"accuracy/test_(hard_targets_sanitized|unwinders_agree|decoders_agree|misnamed).py::", "item"),
    (r"lint/", "item"),
    (r"sanitized/test_sanitized.py::test_unit", "item"),
    (r"fuzz/", "file"),
    (r"unit/", "file"),
]
ALONE = "alone"
PATTERNS = [(re.compile(rf"(?:{re.escape(TESTS.name)}/)?{pattern}"), unit) for pattern, unit in TOGETHER]


def rank(nodeid):
    """Where a test stands in TOGETHER; its length for a test that runs alone."""
    return next((i for i, (pattern, _) in enumerate(PATTERNS) if pattern.match(nodeid)), len(PATTERNS))


def unit_of(nodeid):
    """The name of what is handed out together with this test."""
    place = rank(nodeid)
    if place == len(PATTERNS):
        return ALONE
    return nodeid if PATTERNS[place][1] == "item" else nodeid.split("::")[0]


def sort(items):
    """Brings the tests into the order in which they are to be handed out."""
    items.sort(key=lambda item: rank(item.nodeid))


class Turn:
    """The lock of one worker."""

    def __init__(self):
        folder = build_dir() / "tests"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / ".turn", "w", encoding="ascii")

    def take(self, nodeid):
        """Waits until this test may run."""
        alone = rank(nodeid) == len(PATTERNS)
        fcntl.flock(self._file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)

    def give(self):
        """This test is over."""
        fcntl.flock(self._file, fcntl.LOCK_UN)


def make_scheduler(config, log):
    """xdist's scheduler by scopes, with ours as its scopes."""
    from xdist.scheduler.loadscope import LoadScopeScheduling  # pylint: disable=import-outside-toplevel

    class ByUnit(LoadScopeScheduling):
        """Hands out units."""

        def _split_scope(self, nodeid):
            return unit_of(nodeid)

    return ByUnit(config, log)
