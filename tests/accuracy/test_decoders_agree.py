"""Our decoder of instructions says of each one in real code what Zydis says (compare_insn.c)."""
import json
import subprocess

import pytest

LIBRARIES = ["libc.so.6", "libstdc++.so.6", "libcrypto.so.3", "libjemalloc.so.2", "libmimalloc.so.2",
             "libtcmalloc_minimal.so.4"]

# Tables between its functions: bytes that are no code, and may be anything.
MOST_WRONG = {"libcrypto.so.3": 5}


@pytest.mark.parametrize("name", LIBRARIES)
def test_instructions_are_those_of_zydis(build_folder, name, figure):
    tool = build_folder / "tests/accuracy/compare_insn"
    done = subprocess.run([tool, f"/usr/lib/x86_64-linux-gnu/{name}"], check=True, timeout=100, capture_output=True)
    counts = json.loads(done.stdout)
    figure(f"{name}: {counts}")
    assert counts["insns"] > 10000, counts
    wrong = {what: counts[what] for what in ("undecoded", "lengths", "registers", "targets")}
    assert max(wrong.values()) <= MOST_WRONG.get(name, 0), (wrong, done.stderr.decode())
