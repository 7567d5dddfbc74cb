"""Names the same addresses of one large file by us, addr2line, eu-addr2line, llvm-symbolizer and perf script."""
import json
import os
import random
import re
import shutil
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path

import running

from harness import elf
from harness.paths import find_perf

NUM_ADDRESSES = 1000
REAPER = Path(__file__).with_name("reaper.py")
SLOW_SECONDS = float(os.environ.get("BENCH_SLOW_SECONDS", "60"))
# Large C++ with debug info from Debian's -dbg packages, largest first.
FILES = ["/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so",
         "/usr/lib/x86_64-linux-gnu/debug/libstdc++.so.6.0.30",
         "/lib/x86_64-linux-gnu/libc.so.6"]


def has_debug_info(path):
    """Whether a file has debug info of its own or a debug file by build-id."""
    return ".debug_info" in elf.run_readelf("-S", path) or elf.debug_file(path) is not None


def large_file(otherwise):
    """The first of FILES that has debug info here."""
    return next((path for path in FILES if Path(path).exists() and has_debug_info(path)), str(otherwise))


def pick_addresses(path, count):
    """Random addresses all over .text, the same in each run."""
    text = elf.run_readelf("-S", path)
    start, size = re.search(r"\.text\s+PROGBITS\s+(\w+)\s+\w+\s+(\w+)", text).groups()
    rng = random.Random(1)
    return sorted({int(start, 16) + rng.randrange(int(size, 16)) for _ in range(count)})


def perf_data(path, addresses):
    """A perf.data in which every address has been sampled once. Layout: perf.data-file-format.txt of Linux' tools/perf,
    perf_event_open(2). perf 6.1 shows inlined functions only in stacks that it has unwound by itself: each sample has
    registers, and a stack that ends there."""
    pid, start = 4000000, 0x7F0000000000
    out_segments = [(off, va, n) for off, va, n in elf.segments(path)]

    def record(kind, misc, body):
        return struct.pack("<IHH", kind, misc, 8 + len(body)) + body

    def text(value, size=None):
        raw = value.encode() + b"\0"
        return raw.ljust(size or (len(raw) + 7) // 8 * 8, b"\0")

    records = [record(3, 2, struct.pack("<II", pid, pid) + text("bench"))]  # COMM
    for off, va, size in out_segments:
        low = off & ~0xfff
        records.append(record(10, 2, struct.pack("<IIQQQIIQQII", pid, pid, start + (va & ~0xfff), size + off - low, low,
                                                 0, 0, 0, 0, 5, 2) + text(path)))  # MMAP2
    for address in addresses:
        ip, sp = start + address, 0x7FFF00000000
        regs = [0] * 7 + [sp, ip] + [0] * 11  # ax ... bp, sp, ip, flags ... r15
        records.append(record(9, 2, struct.pack("<QIIQQ20QQ64sQ", ip, pid, pid, 0, 2, *regs, 64, b"", 64)))  # SAMPLE
    data = b"".join(records)
    # attr: type software, cpu-clock; IP | TID | CALLCHAIN | REGS_USER | STACK_USER; without the user's callchain
    attr = struct.pack("<IIQQQQQ", 1, 128, 0, 1, 1 | 2 | 32 | 4096 | 8192, 0, 1 << 22).ljust(80, b"\0") \
        + struct.pack("<QI", 0xff0fff, 64).ljust(48, b"\0")
    head, at = 104, 104 + 128 + 16
    return struct.pack("<8sQQQQQQQQ", b"PERFILE2", head, 144, head, 144, at, len(data), 0, 0) \
        .ljust(head, b"\0") + attr + struct.pack("<QQ", 0, 0) + data


def measure(command, given):
    """Runs a command with a file as its input. Returns {cpu, wall, peak, whole}; whole: it ended by itself."""
    with open(given, "rb") as stdin, tempfile.TemporaryFile() as out:
        done = running.Running(command, out, stdin=stdin)
        try:
            done.finish(SLOW_SECONDS, statuses=(0, -9))
        finally:
            done.stop()
    return {"cpu": done.cpu_s + done.children_cpu_s, "wall": done.ended - done.started, "peak": done.rss_mb,
            "whole": done.status == 0}


def measure_all(command, given):
    """The same for a command whose work is done by others, which may outlive it."""
    with tempfile.NamedTemporaryFile() as told, open(given, "rb") as stdin, tempfile.TemporaryFile() as out:
        started = time.monotonic()
        done = running.Running([sys.executable, "-B", REAPER, SLOW_SECONDS, told.name, *command], out, stdin=stdin)
        try:
            done.finish(SLOW_SECONDS + 30)
        finally:
            done.stop()
        return {"wall": time.monotonic() - started, **json.load(told)}


def tools(path, program, data):
    """{name: command line}, the one on standard input gets the addresses."""
    out = {"cprofiler": [program, path], "cprofiler, names only": [program, path, "--names"],
           "addr2line -fi": ["addr2line", "-f", "-i", "-e", path],
           "eu-addr2line -fi": ["eu-addr2line", "-f", "-i", "-e", path],
           "llvm-symbolizer": ["llvm-symbolizer", "--inlines", "-e", path]}
    if find_perf():
        out["perf script"] = [find_perf(), "script", "-F", "ip,sym,dso,srcline", "-i", data]
    return {name: [str(word) for word in words] for name, words in out.items()}


def compare(path, program, folder, rounds, progress):
    """Returns ({tool: {cpu, wall, rate, ratio, peak, whole} or why not}, single figures). Of a tool that was stopped (whole is
    false) the CPU is what it had used until then."""
    addresses = pick_addresses(path, NUM_ADDRESSES)
    data, given = folder / "addresses.data", folder / "addresses.txt"
    data.write_bytes(perf_data(path, addresses))
    given.write_text("".join(f"0x{address:x}\n" for address in addresses), encoding="ascii")
    commands, single, table = tools(path, program, data), {}, {}
    for number in range(rounds):
        for name, command in commands.items():
            runs = single.setdefault(name, [])
            if not shutil.which(command[0]):
                table[name] = "not installed"
            elif all(run["whole"] for run in runs):
                progress(f"names, round {number + 1} of {rounds}: {name}")
                runs.append((measure_all if name == "perf script" else measure)(command, given))
    for name, runs in single.items():
        if runs:
            cpu = statistics.median(r["cpu"] for r in runs)
            pairs = [r["cpu"] / o["cpu"] for r, o in zip(runs, single["cprofiler"])]
            table[name] = {"cpu": cpu, "wall": statistics.median(r["wall"] for r in runs), "rate": len(addresses) / cpu,
                           "ratio": statistics.median(pairs),
                           "peak": max(r["peak"] for r in runs), "whole": all(r["whole"] for r in runs)}
    return table, single
