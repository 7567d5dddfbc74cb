"""The same tests once more under AddressSanitizer (with its leak check) and UndefinedBehaviorSanitizer.

`make check` builds $O/san. Each C test program is one item, each file of command line tests is one, so
that they don't count twice as much as they say. Without that build (`make lint`) nothing is here to run.
"""
import os
import re
import subprocess

import pytest

from harness.paths import ROOT, TESTS, build_dir

SAN = build_dir() / "san"
UNIT_PROGRAMS = sorted((TESTS / "unit").glob("*/test_*.c"))
# Not test_errors.py: ASan reserves terabytes of address space and opens /proc files, which the tests
# with tiny limits and filtered system calls forbid.
CLI_FILES = ["cli/test_first_contact.py", "cli/test_record_launch.py", "cli/test_record_attach.py",
             "cli/test_record_output.py", "cli/test_pprof_conformance.py", "cli/test_report.py",
             "cli/test_report_manners.py", "cli/test_symbolize.py", "harm/test_harm.py", "harm/test_ptrace.py"]


@pytest.fixture
def sanitizer_logs(tmp_path):
    """Environment whose sanitizer reports go to files, and the function that reads them."""
    prefix = tmp_path / "sanitizer"
    environment = {
        **os.environ,
        "O": str(SAN),
        "CPROFILER": str(SAN / "cprofiler"),
        "ASAN_OPTIONS": f"log_path={prefix}:detect_leaks=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": f"log_path={prefix}:print_stacktrace=1",
    }

    def read():
        return "\n".join(path.read_text(errors="replace")[:3000] for path in tmp_path.glob("sanitizer.*"))

    return environment, read


@pytest.mark.parametrize("source", UNIT_PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_unit(source, sanitizer_logs):
    environment, read = sanitizer_logs
    program = SAN / source.relative_to(ROOT).with_suffix("")
    assert program.exists(), f"{program} is not built: run `make check-builds`"
    done = subprocess.run([program], cwd=ROOT, env=environment, check=False, timeout=280, text=True,
                          errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0 and not read(), f"{done.stdout[-3000:]}\n{read()}"


@pytest.mark.limit(900)
@pytest.mark.parametrize("name", CLI_FILES)
def test_command_line(name, sanitizer_logs):
    environment, read = sanitizer_logs
    command = ["/usr/bin/python3", "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short",
               f"tests/{name}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=880, text=True,
                          errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    failed = re.findall(r"^(?:FAILED|ERROR) .*$", done.stdout, re.M)
    assert done.returncode == 0 and not read(), f"{failed}\n{done.stdout[-4000:]}\n{read()}"
