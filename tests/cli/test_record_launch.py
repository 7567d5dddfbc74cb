"""record -- COMMAND: the command's ends, its input and output, options, signals, what it inherits."""
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import processes
from harness.pprof import Profile
from harness.recording import finish, record

INHERITED = str(Path(__file__).with_name("inherited.py"))
PYTHON = "/usr/bin/python3"


@pytest.mark.parametrize("code", [0, 1, 42, 126, 127, 255])
def test_exit_code_of_the_command_is_ours(cprofiler, tmp_path, code):
    done = cprofiler("record", "-o", tmp_path / "p", "--", "sh", "-c", f"exit {code}")
    assert done.returncode == code
    assert (tmp_path / "p").exists()


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGTERM", "SIGABRT", "SIGINT"])
def test_signal_that_ended_the_command_is_our_end(cprofiler, tmp_path, name):
    number = getattr(signal, name)
    done = cprofiler("record", "-o", tmp_path / "p", "--", PYTHON, "-c",
                     f"import os, signal; signal.signal({number}, signal.SIG_DFL) if {number} != 9 else 0; "
                     f"os.kill(os.getpid(), {number})")
    assert done.returncode in (-number, 128 + number)
    assert (tmp_path / "p").exists()


def test_stdin_and_stdout_belong_to_the_command(cprofiler, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        done = cprofiler("record", "-o", tmp_path / "p", "--", "cat", stdin=source, stdout=sink)
    assert done.returncode == 0
    assert (tmp_path / "out").read_bytes() == data


def test_stderr_of_the_command_passes_and_comes_before_the_summary(cprofiler, tmp_path):
    done = cprofiler("record", "-o", tmp_path / "p", "--", "sh", "-c", "echo to-stderr >&2; echo to-stdout")
    assert done.stdout == b"to-stdout\n"
    assert done.stderr.startswith(b"to-stderr\n") and b"cprofiler: " in done.stderr


def test_double_dash_may_be_left_out(cprofiler, tmp_path):
    done = cprofiler("record", "-o", tmp_path / "p", "sh", "-c", "echo -o -F $0 $1", "-p", "--quiet")
    assert (done.returncode, done.stdout) == (0, b"-o -F -p --quiet\n")


def test_words_after_the_command_are_the_commands(cprofiler, tmp_path):
    done = cprofiler("record", "-o", tmp_path / "p", "--", "echo", "-F", "20000", "--nonsense", "--")
    assert done.stdout == b"-F 20000 --nonsense --\n"


@pytest.mark.parametrize("flags", [["-F", "199"], ["-F199"], ["--frequency", "199"], ["--frequency=199"]],
                         ids=" ".join)
def test_rate_can_be_given_in_four_ways(cprofiler, workload, tmp_path, flags):
    cprofiler("record", *flags, "-o", tmp_path / "p", "--", workload("shares"), "0.3", check=True)
    assert Profile(tmp_path / "p").proto.period == pytest.approx(1e9 / 199, rel=0.001)


def test_default_rate_and_types(cprofiler, workload, tmp_path):
    cprofiler("record", "-o", tmp_path / "p", "--", workload("shares"), "0.5", check=True)
    profile = Profile(tmp_path / "p")
    assert profile.types == [("samples", "count"), ("cpu", "nanoseconds")]
    assert profile.proto.period == pytest.approx(1e9 / 99, rel=0.001)
    assert all(s.values["cpu"] % 1 == 0 and s.values["samples"] > 0 for s in profile.samples)


def test_default_file_name_is_the_commands_name_and_pid(cprofiler, workload, tmp_path):
    done = cprofiler("record", "--", workload("shares"), "0.3", cwd=tmp_path, check=True)
    pid = json.loads(done.stdout)["pid"]
    assert [p.name for p in tmp_path.iterdir()] == [f"cprofiler.shares-{pid}.cpu.pprof"]
    assert f"cprofiler.shares-{pid}.cpu.pprof".encode() in done.stderr


def test_summary_tells_how_good_the_answer_is(cprofiler, workload, tmp_path):
    done = cprofiler("record", "-o", tmp_path / "p", "--", workload("shares"), "1", check=True)
    text = done.stderr.decode()
    for part in ("99 Hz", "engine", "samples", "CPU", "kernel", "complete", "named", "lost", "throttled",
                 "cost", "top:", "wrote"):
        assert part in text, part
    assert re.search(r"wrote .* \(\d+ K?B\)", text)
    assert "burn_" in text and len(text.splitlines()) <= 12


def test_quiet_is_silent(cprofiler, workload, tmp_path):
    done = cprofiler("record", "--quiet", "-o", tmp_path / "p", "--", "sh", "-c", "exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")
    assert (tmp_path / "p").exists()


def test_json_on_stderr_is_one_object_with_the_figures_of_the_file(cprofiler, workload, tmp_path):
    done = cprofiler("record", "--json", "-o", tmp_path / "p", "--", workload("shares"), "1", check=True)
    summary = json.loads(done.stderr)
    profile = Profile(tmp_path / "p")
    assert summary["samples"] == profile.total("samples")
    assert summary["cpu_seconds"] == pytest.approx(profile.total("cpu") / 1e9, abs=1e-5)
    assert summary["complete_share"] > 0.98 and summary["named_share"] > 0.9
    assert set(summary["loss"]) >= {"lost", "throttled", "truncated"}
    assert summary["files"] == [{"kind": "cpu", "path": str(tmp_path / "p"),
                                 "bytes": (tmp_path / "p").stat().st_size}]
    assert "burn" in summary["top"][0]["name"]


def test_the_command_keeps_its_priority(cprofiler, tmp_path):
    """We raise our own while we record, as far as we may."""
    plain = subprocess.run(["nice"], check=True, stdout=subprocess.PIPE)
    done = cprofiler("record", "-o", tmp_path / "p", "--", "sh", "-c", "sleep 0.3; nice", check=True)
    assert done.stdout == plain.stdout


def test_json_stays_alone_when_the_command_runs_on(cprofiler, tmp_path):
    done = cprofiler("record", "--json", "-d", "0.2", "-o", tmp_path / "p", "--", "sleep", "0.6", check=True)
    summary = json.loads(done.stderr)
    assert summary["samples"] == 0 and isinstance(summary["kernel_sampled"], bool)


def test_json_to_a_file_leaves_stderr_to_the_command(cprofiler, tmp_path):
    done = cprofiler("record", f"--json={tmp_path}/j", "-o", tmp_path / "p", "--", "sh", "-c", "echo x >&2")
    assert done.stderr == b"x\n"
    assert json.loads((tmp_path / "j").read_text())["files"][0]["path"] == str(tmp_path / "p")


def test_kernel_frames_are_there_unless_refused(cprofiler, tmp_path):
    command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=16M", "count=500"]
    with_kernel = record(cprofiler, tmp_path, command, name="with")
    without = record(cprofiler, tmp_path, command, name="without", flags=["--no-kernel"])
    assert sum(s.frames[0].is_kernel for s in with_kernel.profile.samples) > 0
    assert not any(f.is_kernel for s in without.profile.samples for f in s.frames)
    assert with_kernel.profile.total() > without.profile.total()


def test_samples_begin_with_the_first_instruction(cprofiler, tmp_path):
    got = record(cprofiler, tmp_path, [PYTHON, "-c", "pass"], hz=9999)
    early = [s for s in got.profile.samples if any("ld-linux" in f.mapping_file for f in s.frames)]
    assert early, "no sample from the dynamic loader"
    assert not any("cprofiler" in f.mapping_file for s in got.profile.samples for f in s.frames), \
        "samples from before the exec"


def test_environment_descriptors_limits_and_signals_are_inherited_exactly(cprofiler, tmp_path):
    def prepare():
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH, signal.SIGTERM])
        os.umask(0o027)
        os.nice(3)

    read_end, write_end = os.pipe()
    options = {"preexec_fn": prepare, "pass_fds": (read_end, write_end), "cwd": "/usr", "timeout": 60,
               "env": {**os.environ, "ODD": "a\nb=c"}}
    try:
        plain = subprocess.run([PYTHON, INHERITED], check=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **options)
        got = cprofiler("record", "-o", tmp_path / "p", "--", PYTHON, INHERITED, check=True, **options)
    finally:
        os.close(read_end)
        os.close(write_end)
    assert json.loads(got.stdout) == json.loads(plain.stdout)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_ends_the_recording_and_keeps_it(cprofiler, workload, tmp_path, name):
    number = getattr(signal, name)
    recorder = cprofiler.start("record", "-o", tmp_path / "p", "--", workload("shares"), "60")
    time.sleep(1.2)
    status, errors = finish(recorder, number)
    assert status in (0, -number, 128 + number), errors
    assert 0.1e9 < Profile(tmp_path / "p").total() < 3e9


def test_ctrl_c_at_the_terminal_reaches_the_command_once_and_keeps_the_recording(cprofiler, tmp_path):
    script = ("import signal, sys, time\n"
              "seen = []\n"
              "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
              "print('ready', flush=True)\n"
              "end = time.time() + 1.5\n"
              "while time.time() < end: sum(range(1000))\n"
              "print(len(seen)); sys.exit(7)\n")
    recorder = cprofiler.start("record", "-q", "-o", tmp_path / "p", "--", PYTHON, "-c", script,
                               start_new_session=True)
    assert recorder.stdout.readline() == b"ready\n"
    time.sleep(0.4)
    os.killpg(recorder.pid, signal.SIGINT)
    output, _ = recorder.communicate(timeout=30)
    assert Profile(tmp_path / "p").total() > 0
    assert output in (b"1\n", b"2\n") and recorder.returncode == 7


def test_ignored_sigint_stays_ignored_for_the_command(cprofiler, tmp_path):
    recorder = cprofiler.start("record", "-o", tmp_path / "p", "--", PYTHON, "-c",
                               "import signal, time; print(signal.getsignal(2) == signal.SIG_IGN, flush=True); "
                               "time.sleep(1)", start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert recorder.stdout.readline() == b"True\n"
    os.killpg(recorder.pid, signal.SIGINT)
    _, errors = recorder.communicate(timeout=20)
    assert recorder.returncode == 0, errors


def test_sigterm_reaches_the_command(cprofiler, workload, tmp_path):
    recorder = cprofiler.start("record", "-q", "-o", tmp_path / "p", "--", workload("shares"), "60")
    time.sleep(0.7)
    children = Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children").read_text().split()
    assert len(children) == 1
    status, _ = finish(recorder, signal.SIGTERM)
    assert status in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert processes.wait_until(lambda: not os.path.exists(f"/proc/{children[0]}"))


def test_duration_ends_the_recording_not_the_command(cprofiler, workload, tmp_path):
    start = time.monotonic()
    done = cprofiler("record", "-d", "0.7", "-o", tmp_path / "p", "--", workload("shares"), "2", check=True)
    assert time.monotonic() - start > 1.9
    assert json.loads(done.stdout)["result"]
    profile = Profile(tmp_path / "p")
    assert 0.05 < profile.total() / 1e9 < 1
    assert 0.69 <= profile.duration_seconds < 1.5  # never early; late as the machine is busy


@pytest.mark.parametrize("where", ["name", "path"])
def test_bytes_that_are_no_text_leave_the_profile_valid(cprofiler, workload, tmp_path, where, go_pprof):
    program = os.fsencode(workload("oddname"))
    if where == "path":
        folder = os.fsencode(tmp_path) + b"/od\xffd \xc3("
        os.mkdir(folder)
        with open(program, "rb") as source, open(folder + b"/pro\xfegram", "wb") as copy:
            copy.write(source.read())
        program = folder + b"/pro\xfegram"
        os.chmod(program, 0o755)
    done = cprofiler("record", "-F", "499", "-o", tmp_path / "p", "--", program, "0.7", check=True)
    profile = Profile(tmp_path / "p")
    assert profile.cum()["burn_oddly"] > 0.8 * profile.total()
    for text in profile.strings:
        text.encode("utf-8")
    assert go_pprof("-raw", tmp_path / "p").stderr == ""
    assert all(b >= 0x20 or b in b"\n" for b in done.stderr), "control characters reach the terminal"


def test_a_script_with_a_hash_bang_line_runs(cprofiler, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho from-script $1\n")
    script.chmod(0o755)
    done = cprofiler("record", "-o", tmp_path / "p", "--", script, "x", check=True)
    assert done.stdout == b"from-script x\n"


def test_command_is_looked_up_in_path(cprofiler, tmp_path):
    tool = tmp_path / "only-here"
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    done = cprofiler("record", "-o", tmp_path / "p", "--", "only-here", check=True,
                     env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.stdout == b"found\n"


def test_closed_standard_descriptors_do_no_harm(cprofiler, workload, tmp_path):
    done = subprocess.run(["sh", "-c", f'exec "{cprofiler.path}" record -o "{tmp_path}/p" -- '
                                       f'"{workload("shares")}" 0.3 0<&- 1>&- 2>&-'], check=False, timeout=60)
    assert done.returncode == 0
    assert Profile(tmp_path / "p").total() > 0.1e9


def test_a_background_child_that_outlives_the_command_does_not_hold_us(cprofiler, tmp_path):
    start = time.monotonic()
    done = cprofiler("record", "-o", tmp_path / "p", "--", "sh", "-c", "sleep 20 >/dev/null 2>&1 & exit 5",
                     timeout=15, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert done.returncode == 5 and time.monotonic() - start < 10


