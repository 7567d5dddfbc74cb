"""Run as a command: prints as JSON what a process inherits, for comparison with and without profiler."""
import json
import os
import resource


def main():
    """Prints one JSON object."""
    status = {}
    with open("/proc/self/status", encoding="utf-8") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name in ("SigBlk", "SigIgn", "SigCgt", "ShdPnd", "TracerPid", "NoNewPrivs", "Seccomp", "Umask",
                        "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Groups", "Cpus_allowed"):
                status[name] = value.strip()
    descriptors = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        descriptors[number] = link.split(":")[0]
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource)
              if name.startswith("RLIMIT_")}
    environment = {k: v for k, v in os.environ.items() if k not in ("_", "PYTEST_CURRENT_TEST")}
    print(json.dumps({"status": status, "descriptors": descriptors, "limits": limits,
                      "environment": environment, "directory": os.getcwd(), "nice": os.nice(0),
                      "scheduler": os.sched_getscheduler(0), "session_equal": os.getsid(0) == os.getsid(os.getppid()),
                      "group_equal": os.getpgid(0) == os.getpgid(os.getppid())}, sort_keys=True))


main()
