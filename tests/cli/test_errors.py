"""Each error: one line naming object and cause, one line with the remedy, the right exit status."""
import ctypes
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from harness import processes
from harness.messages import assert_refused
from harness.pprof import Profile

NEEDS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="giving up privileges needs root to start from")


@pytest.fixture
def as_nobody(cprofiler, open_dir, workload):
    """as_nobody(*args): runs the program as uid 65534 in a folder of its own. .folder, .shares: paths."""
    program = shutil.copy(cprofiler.path, open_dir / "cprofiler")

    def run(*args, before=None, **options):
        def prepare():
            if before:
                before()
            processes.become_nobody()
        options.setdefault("timeout", 60)
        return subprocess.run([program, *map(str, args)], check=False, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, preexec_fn=prepare,
                              cwd=open_dir, **options)
    run.folder = open_dir
    run.shares = shutil.copy(workload("shares"), open_dir / "shares")
    return run


# --- the command -------------------------------------------------------------------------------

@pytest.mark.parametrize("command", ["no-such-command-anywhere", "/no/such/file", "./no-such-file"])
def test_no_such_command(cprofiler, tmp_path, command):
    done = cprofiler("record", "-o", tmp_path / "p", "--", command)
    assert_refused(done, command, status=127)
    assert not list(tmp_path.iterdir())


def test_command_that_is_not_executable(cprofiler, tmp_path):
    (tmp_path / "data").write_text("just text")
    done = cprofiler("record", "-o", tmp_path / "p", "--", tmp_path / "data")
    assert_refused(done, str(tmp_path / "data"), status=126)


def test_command_that_is_a_directory(cprofiler, tmp_path):
    assert_refused(cprofiler("record", "-o", tmp_path / "p", "--", "/usr"), "/usr", status=126)


def test_command_of_a_wrong_format(cprofiler, tmp_path):
    program = tmp_path / "garbage"
    program.write_bytes(b"\x7fELF" + b"\0" * 60)
    program.chmod(0o755)
    done = cprofiler("record", "-o", tmp_path / "p", "--", program)
    assert_refused(done, str(program), status=done.returncode)
    assert done.returncode in (1, 126)


def test_nothing_to_record(cprofiler):
    assert_refused(cprofiler("record"), "record", status=2)
    assert_refused(cprofiler("record", "--"), "record", status=2)


# --- the process -------------------------------------------------------------------------------

def dead_pid():
    """A pid that belonged to a process a moment ago."""
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
        return gone.pid


def test_no_such_pid(cprofiler, tmp_path):
    pid = dead_pid()
    assert_refused(cprofiler("record", "-o", tmp_path / "p", "-p", pid), str(pid))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pid", ["0", "-1", "99999999999999999999", "12x", "", "1,", "1,,2"])
def test_pid_that_is_none(cprofiler, tmp_path, pid):
    done = cprofiler("record", "-o", tmp_path / "p", "-d", "0.2", "-p", pid)
    assert_refused(done, status=done.returncode)
    assert done.returncode in (1, 2)


def test_no_process_of_that_name(cprofiler, tmp_path):
    assert_refused(cprofiler("record", "-o", tmp_path / "p", "-p", "no-such-name"), "no-such-name")


def test_kernel_thread(cprofiler, tmp_path):
    comm = Path("/proc/2/comm")
    if not comm.exists() or comm.read_text().strip() != "kthreadd":
        pytest.skip("no kernel threads are visible in this pid namespace")
    assert_refused(cprofiler("record", "-o", tmp_path / "p", "-d", "1", "-p", "2"), "kernel thread")


def test_zombie(cprofiler, tmp_path):
    with subprocess.Popen(["true"]) as zombie:
        assert processes.wait_until(lambda: processes.state(zombie.pid) == "Z")
        assert_refused(cprofiler("record", "-o", tmp_path / "p", "-p", zombie.pid), str(zombie.pid))


def test_pid_gone_meanwhile_keeps_what_was_recorded(cprofiler, workload, tmp_path):
    with processes.running([workload("shares"), "30"], stdout=subprocess.DEVNULL) as target:
        recorder = cprofiler.start("record", "-o", tmp_path / "p", "-p", target.pid)
        time.sleep(0.8)
        target.kill()
        _, errors = recorder.communicate(timeout=20)
    assert recorder.returncode == 0, errors
    assert Profile(tmp_path / "p").total() > 0.05e9


def test_pid_that_goes_while_we_attach(cprofiler, tmp_path):
    for delay_ms in (0, 1, 2, 4, 8, 16):
        with processes.running(["sleep", "10"]) as target:
            recorder = cprofiler.start("record", "-o", tmp_path / "p", "-d", "5", "-p", target.pid)
            time.sleep(delay_ms / 1000)
            target.kill()
            target.wait()
            _, errors = recorder.communicate(timeout=20)
        assert recorder.returncode in (0, 1), errors
        assert (recorder.returncode == 0) == (tmp_path / "p").exists(), errors
        if recorder.returncode:
            assert str(target.pid).encode() in errors
        else:
            (tmp_path / "p").unlink()


@NEEDS_ROOT
def test_process_of_somebody_else(as_nobody, workload):
    with processes.running([workload("shares"), "30"], stdout=subprocess.DEVNULL) as target:
        done = as_nobody("record", "-o", as_nobody.folder / "p", "-d", "1", "-p", target.pid)
        assert target.poll() is None
    assert_refused(done, str(target.pid), "root")
    assert not (as_nobody.folder / "p").exists()


# --- the options -------------------------------------------------------------------------------

@pytest.mark.parametrize("flags, words", [
    (["-F", "0"], ["0"]), (["-F", "20000"], ["20000", "10000"]), (["-F", "abc"], ["abc"]), (["-F", "-5"], ["-5"]),
    (["-F", "99x"], ["99x"]), (["-F", "1e3"], ["1e3"]), (["-d", "0"], ["duration"]), (["-d", "-1"], ["duration"]),
    (["-d", "nan"], ["duration"]), (["-d", "5x"], ["5x"]), (["--nonsense"], ["--nonsense"]), (["-Z"], ["-Z"]),
    (["--quiet=yes"], ["quiet"]), (["--engine", "magic"], ["magic", "cpu-wide"]), (["--max-memory", "1"], []),
    (["--max-memory", "zero"], ["zero"]), (["-p", "1"], ["-p"]),
], ids=lambda v: " ".join(v) if v and v[0].startswith("-") else "")
def test_bad_options(cprofiler, tmp_path, flags, words):
    done = cprofiler("record", *flags, "-o", tmp_path / "p", "--", "touch", tmp_path / "ran")
    assert_refused(done, *words, status=2)
    assert not (tmp_path / "ran").exists()


def test_rate_above_10_khz_is_refused_with_the_reason(cprofiler, tmp_path):
    done = cprofiler("record", "-F", "20000", "-o", tmp_path / "p", "--", "true")
    assert_refused(done, "20000", "10 kHz", "cost", status=2)


@pytest.mark.parametrize("flag", ["-o", "-F", "-d", "-p", "--engine"])
def test_option_without_its_value(cprofiler, flag):
    assert_refused(cprofiler("record", flag), "wants a value", status=2)


def test_name_full_of_control_characters_is_shown_harmlessly(cprofiler, tmp_path):
    done = cprofiler("record", "-o", tmp_path / "p", "--", "no\x1b[31m\nsuch\tthing")
    assert done.returncode == 127 and all(b >= 0x20 or b == 0x0a for b in done.stderr)
    assert len(done.stderr.splitlines()) == 2


# --- the machine -------------------------------------------------------------------------------

@NEEDS_ROOT
@pytest.mark.parametrize("level", [2, 3, 4])
def test_high_perf_event_paranoid_without_privileges(as_nobody, paranoid, level):
    """Upstream kernels treat 3 and 4 as 2: user mode only. Debian's refuse; then we name the cure."""
    paranoid(level)
    done = as_nobody("record", "-o", "p", "-F", "499", "--", as_nobody.shares, "1")
    text = done.stderr.decode()
    if done.returncode == 0:
        profile = Profile(as_nobody.folder / "p")
        assert profile.cum()["burn_sixty"] > 0.5 * profile.total() and profile.total() > 0.8e9
        assert not any(f.is_kernel for s in profile.samples for f in s.frames)
        assert "kernel" in text and "perf_event_paranoid" in text
    else:
        assert_refused(done, "perf_event_paranoid")


@NEEDS_ROOT
def test_kernel_samples_without_privileges_where_allowed(as_nobody, paranoid):
    paranoid(1)
    done = as_nobody("record", "-o", "p", "-F", "499", "--", "dd", "if=/dev/zero", "of=/dev/null", "bs=16M",
                     "count=300")
    assert done.returncode == 0, done.stderr
    frames = [f for s in Profile(as_nobody.folder / "p").samples for f in s.frames]
    assert any(f.is_kernel or f.name == "[kernel]" for f in frames)


@NEEDS_ROOT
def test_cpu_wide_engine_without_privileges_is_refused_with_the_cure(as_nobody):
    done = as_nobody("record", "--engine", "cpu-wide", "-o", "p", "--", "touch", "ran")
    assert_refused(done, "cpu-wide") if b"cpu-wide" in done.stderr else assert_refused(done)
    assert not (as_nobody.folder / "ran").exists()


@pytest.mark.parametrize("number", [4, 8, 12, 16, 24, 40])
def test_few_descriptors(cprofiler, workload, tmp_path, number):
    """Either it works within the limit (raising our own is fine), or it says so."""
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))
    done = cprofiler("record", "-o", tmp_path / "p", "-F", "499", "--", workload("shares"), "0.5",
                     preexec_fn=limit)
    if done.returncode == 0:
        assert Profile(tmp_path / "p").total() > 0.3e9
    else:
        assert_refused(done, status=1)
        assert b"ulimit -n" in done.stderr or b"descriptor" in done.stderr or b"open files" in done.stderr
        assert not (tmp_path / "p").exists()


def test_soft_descriptor_limit_is_raised_for_us_and_not_for_the_command(cprofiler, workload, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 4096))
    with processes.running([workload("manythreads"), "100", "8"], stdout=subprocess.PIPE) as target:
        target.stdout.readline()
        done = cprofiler("record", "-o", tmp_path / "p", "--engine", "per-task", "-d", "0.5", "-p", target.pid,
                         preexec_fn=limit)
        assert done.returncode == 0, done.stderr
    done = cprofiler("record", "-q", "-o", tmp_path / "p", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn",
                     preexec_fn=limit)
    assert done.stdout == b"20\n4096\n"


@NEEDS_ROOT
@pytest.mark.parametrize("limit_bytes", [0, 65536, 1 << 20])
def test_little_locked_memory_without_privileges(as_nobody, limit_bytes):
    done = as_nobody("record", "-o", "p", "-F", "499", "--", as_nobody.shares, "1",
                     before=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit_bytes, limit_bytes)))
    if done.returncode == 0:
        assert Profile(as_nobody.folder / "p").total() > 0.8e9
    else:
        assert_refused(done, "ulimit -l")


@NEEDS_ROOT
def test_small_rings_are_mentioned(as_nobody):
    """kernel.perf_event_mlock_kb per CPU is free for all; another process of the user takes it away first."""
    hog = ["perf", "record", "-q", "-e", "cpu-clock:u", "-m", "64", "-o", "/dev/null", "sleep", "20"]
    with processes.running(hog, preexec_fn=processes.become_nobody, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL):
        time.sleep(0.7)
        done = as_nobody("record", "-o", "p", "-F", "499", "--", as_nobody.shares, "1",
                         before=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0)))
    if done.returncode == 0:
        assert Profile(as_nobody.folder / "p").total() > 0.8e9
    else:
        assert_refused(done, "ulimit -l")


def refuse_system_calls(errno_value, *numbers):
    """For preexec_fn: a seccomp filter (seccomp(2)) that lets these system calls fail."""
    def statement(code, k, jt=0, jf=0):
        return struct.pack("HBBI", code, jt, jf, k)

    def install():
        rows = [statement(0x20, 0)]
        for number in numbers:
            rows += [statement(0x15, number, 0, 1), statement(0x06, 0x00050000 | errno_value)]
        rows.append(statement(0x06, 0x7FFF0000))
        code = ctypes.create_string_buffer(b"".join(rows))
        program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rows), ctypes.addressof(code)))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(38, 1, 0, 0, 0)
        if libc.prctl(22, 2, ctypes.byref(program), 0, 0):
            os.write(2, b"no seccomp\n")
    return install


PERF_EVENT_OPEN, BPF, PTRACE = 298, 321, 101


@pytest.mark.parametrize("errno_value", [1, 13, 38], ids=["EPERM", "EACCES", "ENOSYS"])
def test_kernel_without_perf_events_falls_back_to_ptrace(cprofiler, workload, tmp_path, errno_value):
    done = cprofiler("record", "-o", tmp_path / "p", "--", workload("shares"), "1.5",
                     preexec_fn=refuse_system_calls(errno_value, PERF_EVENT_OPEN, BPF))
    assert done.returncode == 0, done.stderr
    assert b"engine ptrace" in done.stderr and b"perf" in done.stderr.split(b"engine ptrace")[1]
    assert Profile(tmp_path / "p").cum()["burn_sixty"] > 0


@pytest.mark.parametrize("errno_value", [1, 13, 38], ids=["EPERM", "EACCES", "ENOSYS"])
def test_kernel_without_perf_events_and_ptrace_is_named(cprofiler, tmp_path, errno_value):
    done = cprofiler("record", "-o", tmp_path / "p", "--", "touch", tmp_path / "ran",
                     preexec_fn=refuse_system_calls(errno_value, PERF_EVENT_OPEN, BPF, PTRACE))
    assert_refused(done, "perf")
    assert not list(tmp_path.iterdir())


def test_forced_ptrace_engine_that_is_refused_is_named(cprofiler, tmp_path):
    done = cprofiler("record", "--engine", "ptrace", "-o", tmp_path / "p", "--", "touch", tmp_path / "ran",
                     preexec_fn=refuse_system_calls(1, PTRACE))
    assert_refused(done, "ptrace is refused")
    assert not list(tmp_path.iterdir())


def test_kernel_without_bpf_falls_back(cprofiler, workload, tmp_path):
    done = cprofiler("record", "-o", tmp_path / "p", "-F", "499", "--", workload("shares"), "1",
                     preexec_fn=refuse_system_calls(1, BPF))
    assert done.returncode == 0, done.stderr
    assert b"per-task" in done.stderr
    assert Profile(tmp_path / "p").total() > 0.8e9


def test_without_proc_mem_of_the_target_the_recording_goes_on(cprofiler, workload, tmp_path):
    """process_vm_readv refused (310): deep stacks are truncated, the rest is complete."""
    done = cprofiler("record", "-o", tmp_path / "p", "-F", "199", "--", workload("deepstack"), "1",
                     preexec_fn=refuse_system_calls(1, 310))
    assert done.returncode == 0, done.stderr
    profile = Profile(tmp_path / "p")
    assert any(s.names[-1] == "[truncated]" for s in profile.samples)


def test_interrupted_while_waiting_for_nothing(cprofiler, tmp_path):
    with processes.running(["sleep", "30"]) as target:
        recorder = cprofiler.start("record", "-q", "-o", tmp_path / "p", "-p", target.pid)
        time.sleep(0.5)
        recorder.send_signal(signal.SIGINT)
        _, errors = recorder.communicate(timeout=10)
    assert (recorder.returncode, errors) == (0, b"")
    assert Profile(tmp_path / "p").total() == 0
