"""Real programs as Debian ships them: complete stacks, and the leaf functions that perf finds too."""
import subprocess

import pytest

from harness import programs, quality
from harness.pprof import Profile
from harness.recording import record

HZ = 999
ROUNDS = 2
MAX_DISTANCE = 0.10
COMPLETE = {"gcc": 0.90, "node": 0.90}


def merge(parts):
    out = {}
    for part in parts:
        for key, value in part.items():
            out[key] = out.get(key, 0) + value
    return out


def perf_round(tmp_path, command, number):
    data = tmp_path / f"perf-{number}.data"
    subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", str(HZ), "-o", str(data), "--", *command],
                   check=True, timeout=120, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return quality.perf_leaves(data)


@pytest.mark.limit(400)
@pytest.mark.parametrize("name", list(programs.PROGRAMS))
def test_stacks_are_complete_and_leaves_agree_with_perf(cprofiler, tmp_path, name, figure):
    if programs.missing(name):
        pytest.skip(programs.missing(name))
    command = programs.prepare(name)
    ours, perfs, recordings = [], [], []
    for number in range(ROUNDS):
        for who in ("perf", "ours") if number % 2 == 0 else ("ours", "perf"):
            if who == "perf":
                perfs.append(perf_round(tmp_path, command, number))
            else:
                got = record(cprofiler, tmp_path, command, hz=HZ, name=f"round-{number}")
                recordings.append(got)
                ours.append(quality.our_leaves(got.profile))
    left, right = merge(ours), merge(perfs)
    distance = quality.total_variation(left, right)
    noise = max(quality.total_variation(ours[0], ours[1]), quality.total_variation(perfs[0], perfs[1]))
    endings = merge(quality.endings(r.profile) for r in recordings)
    user = sum(v for k, v in endings.items() if k != "kernel only")
    complete = endings.get("complete", 0) / user
    figure(f"{name}: {sum(left.values())} samples (perf {sum(right.values())}), complete {complete:.2%}, "
           f"distance to perf {distance:.3f} (between equal runs {noise:.3f}), "
           f"named {recordings[0].summary['named_share']:.1%}\n"
           f"    most different (ours, perf): {quality.worst_differences(left, right, 4)}")
    details = sorted(endings.items(), key=lambda e: -e[1])[:8]
    assert complete >= COMPLETE.get(name, 0.99), details
    assert not [e for e in endings if e.startswith("cut at")], details
    assert distance <= MAX_DISTANCE, quality.worst_differences(left, right)


def test_profile_of_a_real_program_reads_the_same_in_go_tool_pprof(cprofiler, tmp_path, pprof_top):
    got = record(cprofiler, tmp_path, programs.prepare("sqlite"), hz=199)
    profile = Profile(got.file)
    top = pprof_top(got.file, "-nodecount=5", "-sample_index=samples")
    assert "File: sqlite3" in top and "Type: samples" in top
    assert f"{profile.total('samples')}" in top
