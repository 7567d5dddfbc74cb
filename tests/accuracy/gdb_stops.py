"""Runs inside gdb: stops a running process now and then and asks gdb, eu-stack and us for its stacks.

gdb -nx -batch -x gdb_stops.py with STOPS_PID, STOPS_COUNT, STOPS_TOOL (compare_stopped) and
STOPS_OUT in the environment. STOPS_OUT gets one JSON line for each thread and stop:
{"stop_number", "tid", "ours": [pc...], "stop": "[...]", "gdb": [pc...], "eu": [pc...], "code": ranges}; gdb's synthetic frames
(inlined functions, tail calls) are left out.
"""
import json
import os
import signal
import subprocess
import time

import gdb

PID, COUNT = int(os.environ["STOPS_PID"]), int(os.environ["STOPS_COUNT"])
SYNTHETIC = (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME)


def threads():
    """{tid: state letter}"""
    out = {}
    for tid in os.listdir(f"/proc/{PID}/task"):
        with open(f"/proc/{PID}/task/{tid}/stat", "rb") as stat:
            out[int(tid)] = stat.read().rpartition(b")")[2].split()[0].decode()
    return out


def stop():
    """Stops the process and waits until all its threads are. Returns their ids."""
    os.kill(PID, signal.SIGSTOP)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        states = threads()
        if all(state in "Tt" for state in states.values()):
            return sorted(states)
        time.sleep(0.002)
    raise RuntimeError(f"not all threads stopped: {states}")


def code():
    """[[start, limit]] of all executable memory"""
    out = []
    with open(f"/proc/{PID}/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            ends, mode = line.split()[:2]
            if "x" in mode:
                out.append([int(end, 16) for end in ends.split("-")])
    return out


def ours(tids):
    """{tid: ([pc...], reason)} by compare_stopped"""
    done = subprocess.run([os.environ["STOPS_TOOL"], str(PID), *map(str, tids)], check=True, text=True,
                          stdout=subprocess.PIPE, timeout=60)
    out = {}
    for line in done.stdout.splitlines():
        pcs, _, reason = line.partition(";")
        tid, *pcs = pcs.split()
        out[int(tid)] = ([int(pc, 16) for pc in pcs], reason)
    return out


def eu_stack():
    """{tid: [pc...]} by eu-stack"""
    done = subprocess.run(["eu-stack", "-r", "-q", "-n", "0", "-p", str(PID)], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    out, tid = {}, 0
    for line in done.stdout.splitlines():
        if line.startswith("TID "):
            tid = int(line[4:].rstrip(":"))
            out[tid] = []
        elif line.startswith("#"):
            out[tid].append(int(line.split()[1], 16))
    return out


def by_gdb():
    """{tid: [pc...]}"""
    out = {}
    gdb.execute(f"attach {PID}", to_string=True)
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        pcs, frame = [], gdb.newest_frame()
        while frame is not None and len(pcs) < 5000:
            if frame.type() not in SYNTHETIC:
                pcs.append(frame.pc())
            try:
                frame = frame.older()
            except gdb.error:
                break
        out[thread.ptid[1]] = pcs
    gdb.execute("detach", to_string=True)
    return out


def main():
    """STOPS_COUNT stops, then gone."""
    for setting in ("pagination off", "confirm off", "backtrace past-main on", "backtrace past-entry on",
                    "auto-load safe-path /nonexistent", "debuginfod enabled off", "print thread-events off"):
        gdb.execute(f"set {setting}", to_string=True)
    with open(os.environ["STOPS_OUT"], "w", encoding="ascii") as out:
        for number in range(COUNT):
            time.sleep(0.03 + 0.017 * (number % 5))
            try:
                tids = stop()
                ranges, mine, eus, gdbs = code(), ours(tids), eu_stack(), by_gdb()
            finally:
                os.kill(PID, signal.SIGCONT)
            for tid, (pcs, reason) in mine.items():
                out.write(json.dumps({"stop_number": number, "tid": tid, "ours": pcs, "stop": reason, "gdb": gdbs.get(tid),
                                      "eu": eus.get(tid), "code": ranges}) + "\n")


main()
