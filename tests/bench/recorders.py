"""The profilers that are held against each other. Each runs a target once and gives its figures.

Figures of a run: target_cpu, target_wall (s); rec (recorder's CPU until the target ends, ms per s of
recording); tot (the same until the finished file); rss (its
peak, MB); disk (MB it wrote); file (s from the target's end to its finished file: named, for perf, by `perf script
--no-inline`; with inlined functions, for us; not named at all, for samply); got (samples taken of those due);
compl (stacks complete to the thread's entry, of those with user frames).
"""
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import running
import stacks
from harness.paths import cprofiler_path, find_perf
from running import Failed, Running

PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")


def target_figures(target_cpu, target_wall):
    """What every run has."""
    return {"target_cpu": target_cpu, "target_wall": target_wall}


class Recorder:
    """One profiler. The default run() launches the target through it."""

    name = ""

    def why_not(self):
        """Why it can't run on this machine; None when it can."""
        return None

    def prefix(self, folder, hz):
        """The words in front of the target's command line."""
        raise NotImplementedError

    def files(self, folder):
        """What it writes."""
        raise NotImplementedError

    def after(self, folder, figures, is_judged):
        """Adds what comes after the recorder's end: other tools' time, the stacks' judgement."""
        raise NotImplementedError

    def run(self, command, folder, hz, is_judged=True):
        """One run of one target. Returns the figures."""
        for file in self.files(folder):
            file.unlink(missing_ok=True)
        recorder = Running([*self.prefix(folder, hz), *command], environment=environment(folder))
        try:
            pid, start = recorder.find(command)
            end = running.wait_for_end(pid)
            cpu_s = running.cpu_seconds_so_far(recorder.pid)
            recorder.finish()
        finally:
            recorder.stop()
        figures = target_figures(recorder.children_cpu_s, end - start)
        figures.update(rec=1e3 * min(cpu_s, recorder.cpu_s) / figures["target_wall"],
                       tot=1e3 * recorder.cpu_s / figures["target_wall"], rss=recorder.rss_mb,
                       disk=sum(file.stat().st_size for file in self.files(folder)) / 1e6, file=recorder.ended - end)
        judged = self.after(folder, figures, is_judged)
        if judged:
            figures.update(got=judged.samples / (figures["target_cpu"] * hz), compl=judged.share)
        return figures


def environment(folder):
    """Ours, with caches (perf's ~/.debug) in `folder` and no questions to servers."""
    return {**os.environ, "HOME": str(folder), "DEBUGINFOD_URLS": ""}


class Alone(Recorder):
    """The target, unprofiled."""

    name = "alone"

    def run(self, command, folder, hz, is_judged=True):
        done = running.run(command)
        return target_figures(done.cpu_s + done.children_cpu_s, done.ended - done.started)


class CProfiler(Recorder):
    """The program under test."""

    name = "cprofiler"

    def __init__(self, engine=None):
        if engine:
            self.name, self.engine = f"cprofiler {engine}", ["--engine", engine]
        else:
            self.engine = []

    def prefix(self, folder, hz):
        return [cprofiler_path(), "record", "-q", *self.engine, "-F", hz, "-o", folder / "cpu.pprof", "--"]

    def files(self, folder):
        return [folder / "cpu.pprof"]

    def after(self, folder, figures, is_judged):
        return stacks.judge_ours(folder / "cpu.pprof") if is_judged else None


class Perf(Recorder):
    """perf record --call-graph dwarf,BYTES, then perf script without inlined functions."""

    def __init__(self, stack_bytes):
        self.name, self.stack_bytes = f"perf {stack_bytes // 1024}K", stack_bytes

    def why_not(self):
        return None if find_perf() else "not installed (apt install linux-perf)"

    def prefix(self, folder, hz):
        return [find_perf(), "record", "-q", "-e", "cpu-clock", "-F", hz, "--call-graph", f"dwarf,{self.stack_bytes}",
                "-o", folder / "perf.data", "--"]

    def files(self, folder):
        return [folder / "perf.data"]

    def after(self, folder, figures, is_judged):
        script = [find_perf(), "script", "--no-inline", "-i", folder / "perf.data"]
        done = running.run(script, environment=environment(folder))
        figures["rss"] = max(figures["rss"], done.rss_mb)
        figures["file"] += done.ended - done.started
        figures["file_cpu"] = done.cpu_s + done.children_cpu_s
        figures["tot"] += 1e3 * figures["file_cpu"] / figures["target_wall"]
        if not is_judged:
            return None
        command = [*map(str, script), "--max-stack", "4096", "-F", stacks.PERF_FIELDS]
        with subprocess.Popen(command, text=True, errors="replace", env=environment(folder), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as judged:
            return stacks.judge_perf(judged.stdout)


class Samply(Recorder):
    """samply record without symbols, its fastest way to a file. Where perf_event_paranoid is above 1 it gives up, even
    for root, when there is no hardware counter; it is then shown a 1 in a mount namespace of its own."""

    name = "samply"

    def why_not(self):
        return None if shutil.which("samply") else "not installed (cargo install samply)"

    def prefix(self, folder, hz):
        words = [shutil.which("samply"), "record", "--save-only", "-r", hz, "-o", folder / "samply.json.gz", "--"]
        if int(PARANOID.read_text(encoding="ascii")) <= 1:
            return words
        one = folder / "paranoid"
        one.write_text("1\n", encoding="ascii")
        return ["unshare", "-m", "sh", "-c", f'mount --bind {one} {PARANOID} && exec "$@"', "sh", *words]

    def files(self, folder):
        return [folder / "samply.json.gz"]

    def after(self, folder, figures, is_judged):
        return stacks.judge_samply(folder / "samply.json.gz") if is_judged else None


class Attached(Recorder):
    """A profiler that gets the pid of a running target."""

    def watch(self, pid, folder, hz):
        """Profiles the target until it ends. Returns (CPU seconds, peak MB, when its file was finished, Judged)."""
        raise NotImplementedError

    def run(self, command, folder, hz, is_judged=True):
        target = Running(command)
        try:
            cpu_s, rss_mb, finished, judged = self.watch(target.pid, folder, hz)
            target.finish()
        finally:
            target.stop()
        figures = target_figures(target.cpu_s + target.children_cpu_s, target.ended - target.started)
        figures.update(rec=1e3 * cpu_s / figures["target_wall"], rss=rss_mb, compl=judged.share,
                       got=judged.samples / (figures["target_cpu"] * hz))
        if finished:
            figures["file"] = max(0.0, finished - target.ended)
        return figures


class BccProfile(Attached):
    """bcc's `profile -f`: stacks by frame pointers, summed in the kernel. Compiles its BPF program at each start."""

    name = "bcc profile"

    def __init__(self):
        self.program = shutil.which("profile-bpfcc") or shutil.which("profile-bpfcc", path="/usr/sbin")

    def why_not(self):
        if not self.program:
            return "not installed (apt install bpfcc-tools)"
        done = subprocess.run([self.program, "-F", "99", "-f", "1"], check=False, text=True, timeout=120,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        lines = (done.stderr.strip() or "no reason given").splitlines()
        return f"does not run here: {lines[-1][:80]}" if done.returncode else None

    def watch(self, pid, folder, hz):
        with open(folder / "folded", "wb") as out:
            recorder = Running([self.program, "-F", hz, "-f", "-p", pid, "600"], out)
            try:
                running.wait_for_end(pid)
                recorder.signal(signal.SIGINT)
                recorder.finish(60, statuses=range(-64, 256))
            finally:
                recorder.stop()
        text = (folder / "folded").read_text(errors="replace")
        return recorder.cpu_s + recorder.children_cpu_s, recorder.rss_mb, recorder.ended, stacks.judge_folded(text)


class Gdb(Attached):
    """The poor man's profiler: gdb attaches, prints all stacks, detaches, as often as it can."""

    name = "gdb"

    def why_not(self):
        return None if shutil.which("gdb") else "not installed (apt install gdb)"

    def watch(self, pid, folder, hz):
        judged, cpu_s, rss_mb = stacks.Judged(), 0.0, 0.0
        file, program = folder / "gdb.txt", os.readlink(f"/proc/{pid}/exe")
        while Path(f"/proc/{pid}/maps").exists() and Path(f"/proc/{pid}/maps").read_bytes():
            with open(file, "wb") as out:
                gdb = Running(["gdb", "-nx", "-batch", "-p", pid, "-ex", "set pagination off", "-ex",
                               "set backtrace past-main on", "-ex", "set backtrace past-entry on", "-ex",
                               "thread apply all bt"], out, {**os.environ, "DEBUGINFOD_URLS": ""})
                try:
                    gdb.finish(60, statuses=range(-64, 256))
                finally:
                    gdb.stop()
            cpu_s, rss_mb = cpu_s + gdb.cpu_s + gdb.children_cpu_s, max(rss_mb, gdb.rss_mb)
            one = stacks.judge_gdb(file.read_text(errors="replace"), program)
            judged.samples, judged.complete = judged.samples + one.samples, judged.complete + one.complete
            time.sleep(0.1)
        if not judged.samples:
            raise Failed("gdb printed no stack")
        return cpu_s, rss_mb, None, judged


def all_recorders():
    """Every profiler that we know, with what the tables call it."""
    return [Alone(), CProfiler(), Perf(8192), Perf(32768), Samply(), BccProfile(), Gdb()]
