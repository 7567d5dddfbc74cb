"""A name is given only where a symbol really covers the address: a stripped program against its unstripped twin.

What strip leaves of a program that exports functions (as compilers, interpreters and servers do for their plugins) is a
.dynsym with holes: every other function here. Who takes the nearest symbol before the address names them all wrong.
"""
import bisect
import re
import subprocess

import pytest

from harness import elf
from harness.paths import find_perf
from harness.recording import record

NUM_FUNCTIONS = 200
ROUNDS = 200  # of all functions: one to two seconds
HZ = 999
HOLES = {"static": "static", "hidden": '__attribute__((visibility("hidden")))'}


def source():
    """Functions that do the same work: exported and not in turn, one in assembler without a size among them."""
    out = ["typedef unsigned long work(unsigned long);"]
    for i in range(NUM_FUNCTIONS):
        how = "" if i % 2 == 0 else HOLES["static" if i % 4 == 1 else "hidden"]
        name = f"{'shown' if i % 2 == 0 else 'missing'}_{i}"
        out.append(f"__attribute__((noipa)) {how} unsigned long {name}(unsigned long x)\n"
                   f"{{\n    for (int i = 0; i < 20000; i++)\n        x = (x ^ x >> 29) * 0x9e3779b97f4a7c15u + {i};\n"
                   "    return x;\n}")
    # The size of a symbol is up to its author, and the next function's name goes with strip.
    out.append('asm(".text\\n.globl bare\\n.type bare, @function\\nbare: mov %rdi, %rax\\nret\\n");\n'
               "unsigned long bare(unsigned long x);")
    out.append("__attribute__((noipa)) static unsigned long behind_bare(unsigned long x)\n"
               "{\n    for (int i = 0; i < 400000; i++)\n        x = (x ^ x >> 29) * 0x9e3779b97f4a7c15u;\n"
               "    return x;\n}")
    calls = "\n".join(f"        x = {'shown' if i % 2 == 0 else 'missing'}_{i}(x);" for i in range(NUM_FUNCTIONS))
    out.append(f"int main(void)\n{{\n    unsigned long x = 1;\n    for (int i = 0; i < {ROUNDS}; i++) {{\n{calls}\n"
               "        x = behind_bare(bare(x));\n    }\n    return x == 0;\n}\n")
    return "\n".join(out)


class Truth:
    """Which symbols of the twin cover an address."""

    def __init__(self, twin):
        rows = re.findall(r"^([0-9a-f]+) ([0-9a-f]+) [a-zA-Z] (\S+)$",
                          subprocess.run(["nm", "-S", "--defined-only", twin], check=True, text=True, timeout=60,
                                         stdout=subprocess.PIPE).stdout, re.M)
        self.rows = sorted((int(start, 16), int(start, 16) + int(size, 16), name) for start, size, name in rows)

    def names(self, address):
        """All of them: aliases share their code."""
        at = bisect.bisect_right(self.rows, (address, 1 << 64))
        return {name for start, limit, name in self.rows[max(0, at - 8):at] if start <= address < limit}


@pytest.fixture(scope="module", name="programs")
def build(tmp_path_factory):
    """(stripped program, Truth). Not position-independent: what other tools print is the address in the file."""
    folder = tmp_path_factory.mktemp("misnamed")
    (folder / "app.c").write_text(source(), encoding="ascii")
    subprocess.run(["gcc", "-O1", "-fno-toplevel-reorder", "-no-pie", "-rdynamic", "-o", folder / "twin",
                    folder / "app.c"], check=True, timeout=120)
    subprocess.run(["strip", "-o", folder / "app", folder / "twin"], check=True, timeout=60)
    return folder / "app", Truth(folder / "twin")


def judge(found, truth):
    """{"true", "wrong", "none": weight} of (weight, address, name or None), and some that are wrong."""
    sums, wrong = {"true": 0, "wrong": 0, "none": 0}, []
    for weight, address, name in found:
        kind = "none" if name is None else "true" if name in truth.names(address) else "wrong"
        sums[kind] += weight
        if kind == "wrong":
            wrong.append(f"{address:#x} is {truth.names(address)}, not {name}")
    return sums, wrong[:5]


def our_frames(profile, path):
    """All user frames in the program, leaf and callers."""
    for sample in profile.samples:
        for frame in sample.frames:
            if frame.mapping_file == str(path):
                nameless = re.fullmatch(r"app\+0x[0-9a-f]+", frame.name)
                yield sample.values["samples"], elf.elf_addr(profile, frame), None if nameless else frame.name


def perf_leaves(path, folder):
    """What perf calls the leaves; it cannot tell what it guessed."""
    data = folder / "perf.data"
    subprocess.run([find_perf(), "record", "-q", "-e", "cpu-clock", "-F", str(HZ), "-o", data, "--", path], check=True,
                   timeout=120, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    said = subprocess.run([find_perf(), "script", "-i", data, "-F", "ip,sym,dso"], check=True, text=True, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    for address, name in re.findall(rf"^\s*([0-9a-f]+) (.*) \({re.escape(str(path))}\)$", said, re.M):
        yield 1, int(address, 16), None if name == "[unknown]" else name


def test_stripped_program_has_no_wrong_name(cprofiler, tmp_path, programs, figure):
    path, truth = programs
    profile = record(cprofiler, tmp_path, [path], hz=HZ).profile
    found = list(our_frames(profile, path))
    ours, wrong = judge(found, truth)
    perfs, _ = judge(perf_leaves(path, tmp_path), truth)
    figure(f"stripped: frames with the right name {ours['true']}, a wrong one {ours['wrong']}, none {ours['none']}; "
           f"perf's leaves {perfs['true']}, {perfs['wrong']}, {perfs['none']}")
    assert not wrong, wrong
    # Half of the work is in functions that kept their name: nothing but the holes goes without.
    named = {name for _, _, name in found if name}
    assert len(named & {f"shown_{i}" for i in range(0, NUM_FUNCTIONS, 2)}) > NUM_FUNCTIONS / 8, named
    for _, address, name in found:
        covering = truth.names(address)
        assert name or not any(symbol.startswith("shown_") or symbol == "main" for symbol in covering), covering
    holes = {symbol for _, address, name in found if not name for symbol in truth.names(address)}
    assert "behind_bare" in holes and len(holes) > NUM_FUNCTIONS / 8, holes
