#!/usr/bin/env python3
"""Names the same addresses of one file by us, addr2line, eu-addr2line and llvm-symbolizer: CPU and memory.

usage: bench_symbolize.py BENCH_BINARY [FILE] [NUM_ADDRESSES]
BENCH_BINARY is tests/bench/bench_symbolize.c built against libcprofiler.a. FILE must have debug info
(its own, or a -dbg package's); the default is the first of a few large ones that is installed.
"""
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys

DEFAULT_FILES = [
    "/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so",  # with openjdk-17-dbg
    "/lib/x86_64-linux-gnu/libc.so.6",  # with libc6-dbg
]
TOOLS = [
    ("addr2line -fi", ["addr2line", "-f", "-i", "-e"]),
    ("eu-addr2line -fi", ["eu-addr2line", "-f", "-i", "-e"]),
    ("llvm-symbolizer", ["llvm-symbolizer", "--inlines", "-e"]),
]


def pick_addresses(path, count):
    """Random addresses all over .text, the same in each run."""
    text = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True, check=True).stdout
    start, size = re.search(r"\.text\s+PROGBITS\s+(\w+)\s+\w+\s+(\w+)", text).groups()
    rng = random.Random(1)
    return "".join("0x%x\n" % (int(start, 16) + rng.randrange(int(size, 16))) for _ in range(count))


def measure(command, addresses):
    """Runs a command; returns its output, CPU seconds and peak RSS in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    output, _ = process.communicate(addresses)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return output, cpu, after.ru_maxrss / 1024


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    bench = sys.argv[1]
    path = sys.argv[2] if len(sys.argv) > 2 else next((f for f in DEFAULT_FILES if os.path.exists(f)), bench)
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    addresses = pick_addresses(path, count)
    output, ours, _ = measure([bench, path], addresses)
    result = json.loads(output)
    print("%s, %d addresses, %d named, %d lines" % (path, count, result["named"], result["lines"]))
    print("%-18s %8s %14s %9s" % ("", "CPU s", "symbols/s", "CPU/ours"))
    print("%-18s %8.2f %14.0f %9.2f   peak %d MB" % ("cprofiler", ours, count / ours, 1, result["peak_rss_mb"]))
    _, names, _ = measure([bench, path, "--names"], addresses)
    print("%-18s %8.2f %14.0f %9.2f" % ("cprofiler names", names, count / max(names, 1e-3), names / ours))
    for name, command in TOOLS:
        if not shutil.which(command[0]):
            print("%-18s not installed" % name)
            continue
        _, cpu, peak = measure(command + [path], addresses)
        print("%-18s %8.2f %14.0f %9.2f   peak <= %d MB" % (name, cpu, count / cpu, cpu / ours, peak))


if __name__ == "__main__":
    main()
