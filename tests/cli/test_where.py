"""Where a program's file really is: its own mount namespace, a chroot, no name any more, another file
under the name. The code that ran is named, by its own symbols; a decoy's names never show."""
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import processes, recording
from harness.paths import ROOT
from harness.pprof import Profile

SOURCE = ROOT / "tests" / "cli" / "programs" / "where.c"
SPIN_MS = 300
EPOLL_WAIT = "232 "  # its number, by which the recorder waits for samples


def build(path, function, *flags):
    """Builds the program with its one function called `function`."""
    subprocess.run(["gcc", "-O1", f"-DFUNCTION={function}", *flags, "-o", str(path), str(SOURCE)],
                   check=True, timeout=60)
    return path


def strip_to(program, debug):
    """Strips a program; what names its static function goes to the file `debug`."""
    debug.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["objcopy", "--only-keep-debug", str(program), str(debug)], check=True, timeout=60)
    subprocess.run(["strip", str(program)], check=True, timeout=60)


def build_id(path):
    """The build-id of a file, in hex."""
    notes = subprocess.run(["readelf", "-n", str(path)], check=True, timeout=60, text=True,
                           stdout=subprocess.PIPE).stdout
    return notes.split("Build ID:")[1].split()[0]


def expect_named(got, function="real_work", least=0.8):
    """Most samples are in the function; nothing has the name of the decoy."""
    names = [frame.name for sample in got.profile.samples for frame in sample.frames]
    share = sum(s.values["samples"] for s in got.profile.samples if function in s.names) / sum(
        s.values["samples"] for s in got.profile.samples)
    assert share > least, (share, sorted(set(names)))
    assert "decoy_work" not in names
    return names


@pytest.fixture(name="in_namespace")
def make_in_namespace():
    """in_namespace(SCRIPT): a command line that runs it in a mount namespace of its own."""
    if subprocess.run(["unshare", "-m", "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("unshare -m fails here: no right to mount, or a chroot whose root is no mount")
    return lambda script: ["unshare", "-m", "sh", "-ec", script]


def test_program_of_another_mount_namespace(cprofiler, in_namespace, tmp_path):
    """The path names another program in our namespace; the debug file is only in the other one."""
    program, hidden = tmp_path / "place" / "app", tmp_path / "hidden"
    hidden.mkdir()
    program.parent.mkdir()
    build(program, "decoy_work")
    build(hidden / "app", "real_work", "-g")
    strip_to(hidden / "app", hidden / ".debug" / "app.debug")
    subprocess.run(["objcopy", f"--add-gnu-debuglink={hidden}/.debug/app.debug", str(hidden / "app")],
                   check=True, timeout=60)
    got = recording.record(cprofiler, tmp_path, in_namespace(
        f"mount --bind {hidden} {program.parent}; exec {program} {SPIN_MS}"))
    expect_named(got)
    lines = {frame.line for sample in got.profile.samples for frame in sample.frames
             if frame.name == "real_work"}
    assert lines - {0}, "the debug file was not read"


def test_program_on_an_overlay(cprofiler, in_namespace, tmp_path):
    """Inode and device numbers of an overlay differ from those of its layers."""
    for layer in "lower", "upper", "work", "merged":
        (tmp_path / layer).mkdir()
    build(tmp_path / "lower" / "app", "real_work")
    build(tmp_path / "lower" / "changed", "decoy_work")
    build(tmp_path / "changed", "second_work")
    options = ",".join(f"{key}dir={tmp_path}/{key}" for key in ("lower", "upper", "work"))
    mount = f"mount -t tmpfs none {tmp_path}/upper; mkdir {tmp_path}/upper/u {tmp_path}/upper/w; "
    mount += f"mount -t overlay none -o lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper/u," \
             f"workdir={tmp_path}/upper/w {tmp_path}/merged"
    if subprocess.run(in_namespace(mount), check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip(f"this kernel mounts no overlay here ({options})")
    got = recording.record(cprofiler, tmp_path, in_namespace(
        f"{mount}; cp {tmp_path}/changed {tmp_path}/merged/changed; {tmp_path}/merged/app {SPIN_MS};"
        f" exec {tmp_path}/merged/changed {SPIN_MS}"))
    names = {name for sample in got.profile.samples for name in sample.names}
    assert {"real_work", "second_work"} <= names and "decoy_work" not in names, names


def test_program_in_a_chroot(cprofiler, tmp_path):
    """Paths count from the target's root: its build-id directory is the one inside."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    program = build(root / "bin" / "app", "real_work", "-static", "-g", "-Wl,--build-id")
    identity = build_id(program)
    strip_to(program, root / "usr/lib/debug/.build-id" / identity[:2] / f"{identity[2:]}.debug")
    if os.geteuid() != 0:
        pytest.skip("only root may chroot")
    got = recording.record(cprofiler, tmp_path, ["chroot", root, "/bin/app", str(SPIN_MS)])
    names = expect_named(got)
    assert "main" in names


def test_program_without_a_file(cprofiler, tmp_path):
    """A memfd has no path at all."""
    program = build(tmp_path / "app", "real_work")
    script = ("import os, sys; fd = os.memfd_create('nameless'); "
              "os.write(fd, open(sys.argv[1], 'rb').read()); "
              "os.execve(fd, ['nameless', sys.argv[2]], os.environ)")
    got = recording.record(cprofiler, tmp_path,
                           [sys.executable, "-S", "-c", script, program, str(SPIN_MS * 3)])
    expect_named(got, least=0.4)
    assert any("memfd:nameless" in got.profile.mapping_file(m) for m in got.profile.mappings)


@pytest.mark.parametrize("change", ["deleted", "replaced", "rewritten"])
def test_program_whose_file_is_gone(cprofiler, tmp_path, change):
    """The running image is named, not what has its name by now."""
    program = build(tmp_path / "app", "real_work")
    decoy = build(tmp_path / "decoy", "decoy_work")
    with subprocess.Popen([str(program), "60000"]) as process:
        try:
            assert processes.wait_until(lambda: any(str(program) in line for line in
                                                    processes.maps(process.pid)))
            if change == "deleted":
                program.unlink()
            elif change == "replaced":
                decoy.rename(program)
            else:
                program.unlink()
                shutil.copy(decoy, program)
            got = recording.attach(cprofiler, tmp_path, process.pid, 0.6)
        finally:
            process.kill()
    expect_named(got)


def test_programs_that_live_shortly(cprofiler, tmp_path):
    """Each process is gone long before it is named; all files are copies of two."""
    build(tmp_path / "first", "real_work")
    build(tmp_path / "second", "second_work")
    script = (f"cd {tmp_path}; for i in 1 2 3 4 5; do for name in first second; do "
              "cp $name now-$name-$i; ./now-$name-$i 40; done; done")
    got = recording.record(cprofiler, tmp_path, ["sh", "-ec", script], hz=997)
    for function in "real_work", "second_work":
        assert sum(s.values["samples"] for s in got.profile.samples if function in s.names) > 50
    names = {name for sample in got.profile.samples for name in sample.names}
    assert not any(name.startswith("now-") for name in names), names


def test_programs_of_a_container_that_are_gone_when_we_look(cprofiler, in_namespace, tmp_path):
    """Nobody has their root any more but the shell that started them. The recorder sleeps while they run."""
    place, hidden, file = tmp_path / "place", tmp_path / "hidden", tmp_path / "cpu.pprof"
    for folder, function in (place, "decoy_work"), (hidden, "real_work"):
        folder.mkdir()
        for name in "first", "second":
            build(folder / name, function)
    script = (f"mount --bind {hidden} {place}; echo ready; read go; {place}/first 150; {place}/second 150; "
              "echo done; read go")
    with subprocess.Popen(in_namespace(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout.readline() == "ready\n"
        with recording.start_attached(cprofiler, file, shell.pid) as recorder:
            try:
                assert processes.wait_until(lambda: Path(f"/proc/{recorder.pid}/syscall").read_text(encoding="ascii")
                                            .startswith(EPOLL_WAIT))
                recorder.send_signal(signal.SIGSTOP)
                print("go", file=shell.stdin, flush=True)
                assert shell.stdout.readline() == "done\n"
            finally:
                recorder.send_signal(signal.SIGCONT)
            print("go", file=shell.stdin, flush=True)
            said = recorder.communicate(timeout=60)[1].decode()
    assert recorder.returncode == 0, said
    expect_named(SimpleNamespace(profile=Profile(file)))
    assert "unreadable" not in said


def test_set_user_id_program(cprofiler, open_dir):
    """It runs as another user than the one who started it, and its file may be read by nobody."""
    if os.geteuid() != 0:
        pytest.skip("only root may change users")
    program = build(open_dir / "app", "real_work")
    os.chown(program, 65534, 65534)
    program.chmod(0o4711)
    got = recording.record(cprofiler, open_dir,
                           ["setpriv", "--reuid=12345", "--clear-groups", program, str(SPIN_MS)])
    expect_named(got)
    assert Path(program).exists()


def test_perf_map_inside_of_a_container(cprofiler, in_namespace, tmp_path):
    """The map is in a /tmp of its own, under a pid of its own, and both are gone when it is read."""
    program = tmp_path / "jitwork"
    subprocess.run(["gcc", "-O1", "-I", ROOT / "tests" / "workloads", "-o", program,
                    ROOT / "tests" / "cli" / "programs" / "jitwork.c"], check=True, timeout=60)
    command = in_namespace(f"exec 3<{program}; mount -t tmpfs none /tmp; exec /proc/self/fd/3 0.4 /tmp")
    got = recording.record(cprofiler, tmp_path, [*command[:2], "-p", "-f", "--mount-proc", *command[2:]])
    assert got.truth["pid"] == 1
    names = {name for sample in got.profile.samples for name in sample.names}
    assert {"jitted_first", "jitted second(int)"} <= names, names
