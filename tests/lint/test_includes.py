"""Who may include whom, and that every header stands alone (design: docs/architecture.md)."""
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import pytest

from c_source import FOLDERS, product_files, read, report
from harness.paths import ROOT, build_dir

# Stages never include each other: they meet in cmd/session.c through the nouns of profile/.
ALLOWED = {
    "base": {"base"},
    "profile": {"profile", "base"},
    "target": {"target", "profile", "base"},
    "sampler": {"sampler", "target", "profile", "base"},
    "unwind": {"unwind", "target", "profile", "base"},
    "symbolize": {"symbolize", "target", "profile", "base"},
    "output": {"output", "profile", "base"},
    "cmd": set(FOLDERS),
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def wrong_includes(path, text):
    """Findings of one file."""
    for name in INCLUDE.findall(text):
        folder, _, rest = name.partition("/")
        if not rest or folder not in ALLOWED:
            yield f'{path}: #include "{name}": write "folder/file.h", from the root of the tree'
        elif folder not in ALLOWED[path.parts[0]]:
            yield f'{path}: {path.parts[0]}/ must not include {folder}/ ("{name}")'


def test_includes_point_downwards():
    report([finding for path in product_files(".c", ".h") for finding in wrong_includes(path, read(path))])


def test_the_rule_itself_notices_a_wrong_include():
    path = next(p for p in product_files(".c") if p.parts[0] == "unwind")
    assert list(wrong_includes(path, '#include "sampler/sampler.h"\n'))
    assert list(wrong_includes(path, '#include "unwind.h"\n'))
    assert not list(wrong_includes(path, '#include "target/module.h"\n'))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_headers_stand_alone(compiler):
    def compile_alone(path):
        if ".bpf." in path.name or path.match("sampler/bpf/*"):
            return None  # compiled for the kernel, by the Makefile
        command = [compiler, "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-DHAVE_BPF=1",
                   '-DCPROFILER_VERSION=""', "-I.", f"-I{build_dir()}", "-fsyntax-only", "-x", "c", "-"]
        done = subprocess.run(command, cwd=ROOT, text=True, input=f'#include "{path}"\n',
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return f"{path}: does not compile alone:\n{done.stdout}" if done.returncode else None

    with ThreadPoolExecutor(cpu_count()) as pool:
        report([finding for finding in pool.map(compile_alone, product_files(".h")) if finding])
