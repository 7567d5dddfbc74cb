"""Kernel functions by the file /proc/kallsyms, as a user without privileges reads it: with the names of kernel
modules, and with all addresses hidden. The file is one of ours, bound over the real one in a mount namespace."""
import os
import shutil
import subprocess

import pytest

from harness.pprof import Profile


@pytest.fixture(name="real", scope="module")
def read_real():
    """The lines of the kernel proper: [(address, type, name)]."""
    with open("/proc/kallsyms", encoding="ascii", errors="replace") as file:
        lines = [line.split() for line in file]
    lines = [line for line in lines if len(line) == 3]
    if os.geteuid() != 0 or not any(int(line[0], 16) for line in lines):
        pytest.skip("only root sees the kernel's addresses, which the files of this test are made of")
    if subprocess.run(["unshare", "-m", "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("unshare -m fails here: no right to mount, or a chroot whose root is no mount")
    return lines


@pytest.fixture(name="record")
def make_record(cprofiler, open_dir, paranoid):
    """record(LINES): records a command that lives in the kernel, as nobody, with these lines for a file."""
    def record(lines):
        paranoid(1)
        kallsyms, file = open_dir / "kallsyms", open_dir / "cpu.pprof"
        kallsyms.write_text("".join(lines), encoding="ascii")
        program = shutil.copy(cprofiler.path, open_dir / "cprofiler")
        done = subprocess.run(["unshare", "-m", "sh", "-ec", 'mount --bind "$1" /proc/kallsyms; shift; exec "$@"', "sh",
                               kallsyms, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program,
                               "record", "-F", "499", "-o", file, "--", "dd", "if=/dev/zero", "of=/dev/null",
                               "bs=1M", "count=10000"],
                              check=False, timeout=120, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=open_dir)
        assert done.returncode == 0, done.stderr
        return Profile(file), done.stderr.decode()
    return record


def kernel_lines(profile):
    """{(function, its file)} of all kernel frames, but for those in gaps between functions."""
    return {(frame.name, frame.file) for s in profile.samples for frame in s.frames
            if frame.is_kernel and not frame.name.startswith("[kernel]+")}


def test_functions_of_kernel_modules_have_the_name_of_their_module(record, real):
    """It stands where the source file would: go tool pprof -files groups by it."""
    def is_text(kind):
        return kind in "tTwW"
    profile, _ = record(f"{address} {kind} {name}{chr(9) + '[nf_fake]' if is_text(kind) else ''}\n"
                        for address, kind, name in real)
    got = kernel_lines(profile)
    assert len(got) >= 3 and {file for _, file in got} == {"nf_fake"}, got
    assert {name for name, _ in got} <= {name for _, kind, name in real if is_text(kind)}


def test_hidden_addresses_are_told(record, real):
    profile, said = record(f"{0:016x} {kind} {name}\n" for _, kind, name in real)
    assert {name for name, _ in kernel_lines(profile)} == {"[kernel]"}
    assert "[kernel.kallsyms]" in said and "kernel.kptr_restrict=0" in said
