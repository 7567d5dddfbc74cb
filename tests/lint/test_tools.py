"""What other people's tools find: formatter, analysers, spelling, manual pages, shell scripts."""
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count, environ

import pytest

from c_source import c_files, product_files, report, tracked_files
from harness.paths import ROOT, build_dir


def run(*command, only=None):
    """Runs a tool over the tree. Returns its output when it complained, else None.
    only: a pattern; of what it printed, only lines with it are kept."""
    done = subprocess.run([str(word) for word in command], cwd=ROOT, text=True, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if not done.returncode:
        return None
    lines = [line for line in done.stdout.splitlines() if not only or re.search(only, line)]
    return "\n".join(lines)[-6000:] or f"{command[0]} ended with {done.returncode}"


def num_jobs():
    """Processes at once: one for each CPU, unless other tests run beside us and have theirs."""
    return 1 if "PYTEST_XDIST_WORKER" in environ else cpu_count()


def run_each(paths, command, only=None):
    """Runs command(path) for each path, num_jobs() at once."""
    with ThreadPoolExecutor(num_jobs()) as pool:
        findings = pool.map(lambda path: run(*command(path), only=only), paths)
        report([finding for finding in findings if finding])


def flags():
    """How the program is compiled, as far as an analyser must know."""
    return ["-std=gnu17", "-D_GNU_SOURCE", "-DHAVE_BPF=1", '-DCPROFILER_VERSION="0"', "-I.",
            f"-I{build_dir()}"]


def own_sources():
    """The .c files that are compiled for this machine."""
    return [path for path in product_files(".c") if ".bpf." not in path.name]


def test_clang_format():
    run_each(c_files(), lambda path: ["clang-format", "--dry-run", "-Werror", path])


@pytest.mark.limit(900)
@pytest.mark.parametrize("folder", sorted({path.parts[0] for path in own_sources()}))
def test_clang_tidy(folder):
    def command(path):
        # base/error.c defines what analyzer.h wraps.
        know = [] if str(path) == "base/error.c" else ["-include", "tests/lint/analyzer.h"]
        return ["clang-tidy", "--quiet", "--warnings-as-errors=*", path, "--", *flags(), *know]

    run_each([path for path in own_sources() if path.parts[0] == folder], command, only=": (error|warning): ")


@pytest.mark.limit(600)
def test_cppcheck():
    findings = run("cppcheck", "--quiet", "--error-exitcode=1", "--inline-suppr", "--std=c11",
                   "--library=posix", "--enable=warning,portability", f"-j{num_jobs()}",
                   "--suppressions-list=tests/lint/cppcheck-suppressions", "-D_GNU_SOURCE", "-DHAVE_BPF=1",
                   '-DCPROFILER_VERSION="0"', "-I.", *own_sources())
    report([findings] if findings else [])


def test_codespell():
    paths = [p for p in tracked_files() if p.suffix in (".c", ".h", ".py", ".md", ".1", ".proto", "")
             and "corpus" not in p.parts]
    findings = run("codespell", "--ignore-words=tests/lint/codespell-words", *paths)
    report([findings] if findings else [])


def test_manual_pages():
    pages = sorted(p for p in tracked_files() if p.parts[0] == "man")
    assert pages
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "style", *map(str, pages)], cwd=ROOT, text=True,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # Our own pages are not installed, and the machine's index of pages may be old.
    report([line for line in done.stdout.splitlines()
            if "referenced manual not found" not in line and "mandoc.db" not in line])


def test_shell_scripts():
    scripts = [p for p in tracked_files() if p.suffix == ".sh"
               or (p.parts[0] == ".ci" and (ROOT / p).read_bytes().startswith(b"#!/bin/"))]
    # SC2016: $(NAME) in apt's format strings is apt's, not the shell's.
    findings = run("shellcheck", "--exclude=SC2016", *scripts)
    report([findings] if findings else [])


def test_python_compiles():
    findings = run("/usr/bin/python3", "-B", "-c",
                   "import ast, sys\nfor p in sys.argv[1:]: ast.parse(open(p).read(), p)",
                   *[p for p in tracked_files() if p.suffix == ".py"])
    report([findings] if findings else [])
