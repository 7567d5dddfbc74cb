"""Code made by JIT compilers: perf-PID.map and jitdump, as node really writes them."""
import os
import subprocess
from pathlib import Path

import pytest

from harness import processes, recording
from harness.paths import ROOT

SOURCE = """function hot(n) {
  let s = 0;
  for (let i = 0; i < n; i++) {
    s = (s * 31 + i) % 1000003;
  }
  return s;
}
function outer(n) {
  return hot(n) + 1;
}
const until = process.cpuUsage().user + Number(process.argv[2]) * 1e6;
let total = 0;
while (process.cpuUsage().user < until) total += outer(200000);
"""


@pytest.fixture(name="script")
def make_script(tmp_path):
    """A script of one hot function, lines 1 to 7."""
    path = tmp_path / "spin.js"
    path.write_text(SOURCE, encoding="ascii")
    return path


def hot_frames(profile):
    """All frames of the optimized hot function."""
    return [frame for sample in profile.samples for frame in sample.frames if "*hot " in frame.name]


def share_of_hot(profile):
    """Share of the samples that have the hot function in their stack."""
    with_hot = sum(sample.values["samples"] for sample in profile.samples
                   if any("hot " in frame.name for frame in sample.frames))
    return with_hot / sum(sample.values["samples"] for sample in profile.samples)


def test_jitdump_gives_names_files_and_lines(cprofiler, script, tmp_path):
    """node --perf-prof writes a jitdump in its working directory and maps it."""
    got = recording.record(cprofiler, tmp_path, ["node", "--perf-prof", script.name, "0.7"],
                           cwd=tmp_path)
    frames = hot_frames(got.profile)
    assert frames and share_of_hot(got.profile) > 0.3
    assert {frame.file for frame in frames} == {str(script)}
    lines = {frame.line for frame in frames}
    assert lines & {3, 4} and lines <= set(range(0, 8)), lines
    assert list(tmp_path.glob("jit-*.dump")), "node wrote no dump: this tested something else"
    assert got.summary["loss"].get("unreadable", 0) == 0


def test_jitdump_is_found_when_attaching_and_after_it_was_deleted(cprofiler, script, tmp_path):
    """The mark is in /proc/PID/maps; the file is read through what was opened then. V8 may hold its
    lines back until it ends, so the recording lasts as long."""
    with subprocess.Popen(["node", "--perf-prof", script.name, "1.5"], cwd=tmp_path) as process:
        try:
            assert processes.wait_until(lambda: any("jit-" in line for line in
                                                    processes.maps(process.pid)), seconds=30)
            next(tmp_path.glob("jit-*.dump")).unlink()
            got = recording.attach(cprofiler, tmp_path, process.pid, 60)
        finally:
            process.kill()
    assert hot_frames(got.profile) and share_of_hot(got.profile) > 0.3
    assert {frame.file for frame in hot_frames(got.profile)} == {str(script)}


def test_perf_map_gives_names_and_files(cprofiler, script, tmp_path):
    """node --perf-basic-prof writes /tmp/perf-PID.map."""
    got = recording.record(cprofiler, tmp_path, ["node", "--perf-basic-prof", script, "0.7"],
                           cwd=tmp_path)  # it leaves a log there
    assert hot_frames(got.profile) and share_of_hot(got.profile) > 0.3
    assert {frame.file for frame in hot_frames(got.profile)} == {str(script)}


def test_perf_map_of_another_user_is_not_used_and_told(cprofiler, tmp_path):
    """Everybody may write to /tmp, names of other people's processes too."""
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    program = tmp_path / "jitwork"
    subprocess.run(["gcc", "-O1", "-I", ROOT / "tests" / "workloads", "-o", program,
                    ROOT / "tests" / "cli" / "programs" / "jitwork.c"], check=True, timeout=60)
    with subprocess.Popen([program, "60", "/tmp"], stdout=subprocess.DEVNULL) as process:
        jit_map = Path(f"/tmp/perf-{process.pid}.map")
        try:
            assert processes.wait_until(lambda: jit_map.exists() and "second" in jit_map.read_text(encoding="ascii"))
            os.chown(jit_map, 65534, 65534)
            got = recording.attach(cprofiler, tmp_path, process.pid, 0.4)
            os.chown(jit_map, 0, 0)
            trusted = recording.attach(cprofiler, tmp_path, process.pid, 0.4, name="trusted")
        finally:
            process.kill()
            jit_map.unlink()
    assert not any("jitted" in name for sample in got.profile.samples for name in sample.names)
    assert f"{jit_map} is of another user" in got.summary["worst"]["remedy"]
    assert any("jitted" in name for sample in trusted.profile.samples for name in sample.names)
