"""The manual: every command has its page, pages and --help agree, and the examples run."""
import os
import re
import subprocess

import pytest

from c_source import read, report, tracked_files
from harness.paths import ROOT, cprofiler_path


@pytest.fixture(scope="module")
def program():
    """Path of the program under test."""
    path = cprofiler_path()
    assert path.exists(), f"{path} is not built: run `make`"
    return path


def run(*command):
    """The standard output of a command that succeeds."""
    done = subprocess.run([str(word) for word in command], text=True, check=False, timeout=60,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr}"
    return done.stdout


def command_names(program):
    """The commands as the program lists them."""
    return re.search(r"^Commands:(.*)$", run(program, "help"), re.M).group(1).split()


def pages():
    """Page names without section: the files of man/."""
    return {path.name.removesuffix(".1") for path in tracked_files() if path.parts[0] == "man"}


def options_of_help(text):
    """Option names in a --help text; --[no-]x counts as both."""
    names = set()
    options = re.search(r"^Options:\n(.*?)(?:\n\n|\Z)", text, re.S | re.M)
    for line in options.group(1).split("\n") if options else []:
        left = re.match(r"  (?:-(\w), |    )--(\[no-\])?([\w-]+)", line)
        if left:
            short, negated, name = left.groups()
            names |= {f"--{name}"} | ({f"-{short}"} if short else set())
            names |= {f"--no-{name}"} if negated else set()
    return names


def options_of_page(name):
    """Option names that the OPTIONS section of a page describes."""
    section = re.search(r"^\.Sh OPTIONS\n(.*?)(?=^\.Sh )", read(f"man/{name}.1"), re.S | re.M).group(1)
    items = re.findall(r"^\.It (Fl .*)$", section, re.M)
    return {f"-{option}" for item in items for option in re.findall(r"\bFl (-?[\w-]+)", item)}


def test_every_command_has_a_page_and_every_page_a_command(program):
    commands = {f"cprofiler-{name}" for name in command_names(program)}
    assert pages() == commands | {"cprofiler"}


def test_every_command_is_in_the_main_page(program):
    items = re.findall(r"^\.It Cm (\w+)", read("man/cprofiler.1"), re.M)
    assert items == command_names(program)


def test_pages_and_help_know_the_same_options(program):
    findings = []
    for command in command_names(program):
        in_help = options_of_help(run(program, command, "--help"))
        in_page = options_of_page(f"cprofiler-{command}")
        findings += [f"{command}: {option} is in --help, not in the page"
                     for option in sorted(in_help - in_page)]
        findings += [f"{command}: {option} is in the page, not in --help"
                     for option in sorted(in_page - in_help)]
    report(findings)


def test_pages_have_the_sections_that_operators_look_for():
    for section in ("PERMISSIONS", "OVERHEAD", "EXIT STATUS", "EXAMPLES", "CAVEATS"):
        assert f"\n.Sh {section}\n" in read("man/cprofiler-record.1"), section


def examples():
    """(page, command) of every example that a user types as himself ("$")."""
    for path in tracked_files():
        if path.parts[0] == "man":
            for line in re.findall(r"^\.Dl \$ (.*)$", read(path), re.M):
                if "-http" not in line:  # starts a browser
                    yield path.name, line.replace("\\-", "-").replace("\\(ti", "~")


def test_examples_of_the_manual_run(program, tmp_path):
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    findings = []
    for page, line in examples():
        done = subprocess.run(["/bin/bash", "-c", line], cwd=tmp_path, env=environment, text=True,
                              check=False, timeout=120, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            findings.append(f"{page}: {line}\nended with {done.returncode}: {done.stderr[-500:]}")
    report(findings)
    assert (tmp_path / "cpu.pprof").stat().st_size > 100


def test_targets_of_make_that_the_texts_name_exist():
    known = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    findings = []
    for path in tracked_files():
        if path.suffix in (".md", ".1"):
            for target in re.findall(r"(?:`|Ql |^ +|\$ )make ([a-z-]+)", read(path), re.M):
                if target not in known:
                    findings.append(f"{path}: make {target}: no such target")
    report(findings)


def test_links_between_texts_lead_somewhere():
    findings = []
    for path in tracked_files():
        if path.suffix == ".md":
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(path)):
                if not (ROOT / path.parent / link).exists():
                    findings.append(f"{path}: {link}: no such file")
    report(findings)
