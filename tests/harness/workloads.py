"""Programs that know their answer: built from tests/workloads into $O/workloads, once per session.

`build("shares")` gives the path of the program. A variant is a row of TABLE: the source, and what the
compiler gets beyond BASE. Every workload prints one JSON object with its truth on stdout at its end.
"""
import fcntl
import json
import os
import shutil
import subprocess

from .paths import TESTS, build_dir

SOURCES = TESTS / "workloads"
BASE = ["-O2", "-g", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-D_GNU_SOURCE", "-pthread",
        "-Wall", "-Wextra", "-Werror"]
# name: (source, flags beyond BASE, files needed beside it, "strip" it or build it with "musl"'s compiler)
TABLE = {
    "shares": ("shares.c", [], [], None),
    "shares-pie": ("shares.c", ["-fPIE", "-pie"], [], None),
    "shares-nonpie": ("shares.c", ["-fno-pie", "-no-pie"], [], None),
    "shares-static": ("shares.c", ["-static"], [], None),
    "shares-static-pie": ("shares.c", ["-static-pie", "-fPIE"], [], None),
    "shares-stripped": ("shares.c", ["-rdynamic"], [], "strip"),
    "shares-nosymbols": ("shares.c", [], [], "strip"),
    "threads": ("threads.c", [], [], None),
    "forks": ("forks.c", [], [], None),
    "execself": ("execself.c", [], [], None),
    "noreturn": ("noreturn.c", ["-falign-functions=1", "-fno-toplevel-reorder", "-fno-reorder-functions"],
                 [], None),
    "sighandler": ("sighandler.c", [], [], None),
    "recursion": ("recursion.c", [], [], None),
    "throwcatch": ("throwcatch.cc", [], [], None),
    "callbacks": ("callbacks.c", [], [], None),
    "plugin.so": ("plugin.c", ["-shared", "-fPIC"], [], None),
    "pluginhost": ("pluginhost.c", ["-ldl"], ["plugin.so"], None),
    "pingpong": ("pingpong.c", [], [], None),
    "deepstack": ("deepstack.c", [], [], None),
    "coroutine": ("coroutine.c", [], [], None),
    "oddname": ("oddname.c", [], [], None),
    "blocked": ("blocked.c", [], [], None),
    "steady": ("steady.c", [], [], None),
    "manythreads": ("manythreads.c", [], [], None),
    "timed": ("timed.c", [], [], None),
    "counted": ("counted.c", [], [], None),
    "grown": ("grown.c", [], [], None),
    "keeper": ("keeper.c", [], [], None),
    "keeper-nosymbols": ("keeper.c", ["-static"], [], "strip"),
    "heap-truth": ("heap_truth.c", [], [], None),
    "heap-truth-static": ("heap_truth.c", ["-static"], [], None),
    "heap-truth-musl": ("heap_truth.c", [], [], "musl"),
    "heap-truth-musl-static": ("heap_truth.c", ["-static"], [], "musl"),
    "heap-new": ("heap_new.cc", [], [], None),
    "heap-churn": ("heap_churn.c", [], [], None),
    "heap-pairs": ("heap_pairs.c", [], [], None),
    "heap-calls": ("heap_calls.c", [], [], None),
    "redis-leak.so": ("redis_leak.c", ["-shared", "-fPIC"], [], None),
    "sqlite-leak": ("sqlite_leak.c", ["-l:libsqlite3.so.0"], [], None),
    "bits32": ("bits32.c", ["-m32", "-nostdlib", "-static", "-ffreestanding", "-fno-pie", "-no-pie",
                            "-fno-stack-protector"], [], None),
}


class CannotBuild(Exception):
    """This machine's compiler can't build the workload (32-bit without support, ...)."""


def compile_workload(name):
    """Compiles one row of TABLE when its source is newer. Returns the path."""
    source, flags, needs, finish = TABLE[name]
    for other in needs:
        compile_workload(other)
    folder = build_dir() / "workloads"
    folder.mkdir(parents=True, exist_ok=True)
    target, inputs = folder / name, [SOURCES / source, *SOURCES.glob("*.h")]
    if target.exists() and target.stat().st_mtime > max(p.stat().st_mtime for p in inputs):
        return target
    compiler = os.environ.get("WORKLOAD_CXX", "g++") if source.endswith(".cc") else \
        "musl-gcc" if finish == "musl" else os.environ.get("WORKLOAD_CC", "gcc")
    made = folder / f".{name}.{os.getpid()}"
    libraries = [f for f in flags if f.startswith("-l")]
    command = [compiler, *BASE, *[f for f in flags if f not in libraries], "-I", str(SOURCES),
               "-o", str(made), str(SOURCES / source), *libraries]
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=120)
    if done.returncode:
        raise CannotBuild(f"{' '.join(command)}:\n{done.stdout}")
    if finish == "strip":
        subprocess.run(["strip", "-s", str(made)], check=True, timeout=30)
    os.replace(made, target)
    return target


def build(name):
    """Compiles a workload, alone among processes that do the same. Returns its path."""
    folder = build_dir() / "workloads"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return compile_workload(name)


def truth_of(stdout):
    """The JSON object that a workload printed as its last line."""
    text = stdout.decode(errors="replace") if isinstance(stdout, bytes) else stdout
    lines = [line for line in text.splitlines() if line.startswith("{")]
    assert lines, f"the workload printed no truth: {text[-500:]!r}"
    return json.loads(lines[-1])


def copy_to(name, folder, new_name=None):
    """A copy of a workload, to delete or rename. Returns its path."""
    target = os.path.join(os.fspath(folder), new_name or name)
    shutil.copy(build(name), target)
    return target
