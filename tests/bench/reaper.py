"""reaper.py SECONDS FILE COMMAND...: runs a command and waits for all processes that it leaves behind, too.

perf has an addr2line do its work, and ends without waiting for it: nobody would count that CPU. Writes {"cpu": s,
"peak": MB of the largest process, "whole": whether all ended within SECONDS} to FILE; what has not ended by then is killed.
"""
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time

import running

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def kill_all():
    """Kills what has become our child, and what is behind it once that has."""
    for pid in running.children_of(os.getpid()):
        os.kill(pid, signal.SIGKILL)


def main():
    limit, file, command = float(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    end, whole = time.monotonic() + limit, True
    subprocess.Popen(command)  # pylint: disable=consider-using-with
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if time.monotonic() > end:
            whole = False
            kill_all()
        if pid == 0:
            time.sleep(0.005)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(file, "w", encoding="ascii") as out:
        json.dump({"cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024, "whole": whole}, out)


if __name__ == "__main__":
    main()
