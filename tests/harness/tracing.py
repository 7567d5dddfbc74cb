"""Tracepoints for tests: the program under test in a mount namespace where tracefs is mounted, or is not."""
import copy
import os
import subprocess

EVENTS = "/sys/kernel/tracing/events"
MOUNT = "mount -t tracefs nodev /sys/kernel/tracing"
UNMOUNT = "while umount /sys/kernel/tracing 2>/dev/null; do :; done; umount /sys/kernel/debug 2>/dev/null"


def _inside(script):
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{script}; exec "$@"', "sh"]


def _wrapped(program, prefix):
    """The same program, started behind `prefix`."""
    wrapped = copy.copy(program)
    wrapped.argv = lambda *args: [*prefix, *program.argv(*args)]
    return wrapped


def with_tracefs(program):
    """The program where tracefs is mounted. Returns None where that can't be had (no privileges)."""
    if os.path.isdir(EVENTS):
        return program
    prefix = _inside(f"{MOUNT} || exit 99")
    done = subprocess.run([*prefix, "test", "-d", EVENTS], check=False, stderr=subprocess.DEVNULL)
    return _wrapped(program, prefix) if done.returncode == 0 else None


def without_tracefs(program):
    """The program where tracefs is not mounted. Returns None where that can't be had."""
    if not os.path.isdir(EVENTS):
        return program
    prefix = _inside(UNMOUNT)
    done = subprocess.run([*prefix, "test", "-d", EVENTS], check=False, stderr=subprocess.DEVNULL)
    return _wrapped(program, prefix) if done.returncode == 1 else None


def has_hardware_counters():
    """Whether perf itself can count cycles here."""
    done = subprocess.run(["perf", "stat", "-x,", "-e", "cycles:u", "true"], check=False, text=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return done.returncode == 0 and "not supported" not in done.stderr
