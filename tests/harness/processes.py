"""Processes and what /proc says about them."""
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path


def wait_until(condition, seconds=10, step=0.01):
    """Polls until condition() is true. Returns its last value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)


def status_field(pid, name):
    """One field of /proc/PID/status, None when the process or the field is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith(name + ":"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return None


def state(pid):
    """State letter of a process (R, S, T, Z, ...), None when it is gone."""
    field = status_field(pid, "State")
    return field[0] if field else None


def descriptors(pid):
    """{fd: what it is} of a process."""
    out = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            out[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
    return out


def maps(pid):
    """Lines of /proc/PID/maps without the heap and stack, which grow by themselves."""
    lines = Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines()
    return [line for line in lines if not line.endswith(("[heap]", "[stack]"))]


def threads(pid):
    """Thread ids of a process."""
    return sorted(int(t) for t in os.listdir(f"/proc/{pid}/task"))


def children(pid):
    """Process ids of the children of a process, as far as it lives."""
    out = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            out += map(int, thread.read_text(encoding="ascii").split())
    return out


def runs(pid, name):
    """Whether a process runs the program of this file name."""
    with contextlib.suppress(OSError):
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")) == name
    return False


def anon_inode_holders(kind, than=()):
    """Processes that hold an anon_inode:[KIND] descriptor: {pid: number}, those in `than` left out."""
    out = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in than:
            continue
        try:
            links = descriptors(int(entry)).values()
        except OSError:
            continue
        number = sum(1 for link in links if link.startswith(f"anon_inode:[{kind}") or
                     link == f"anon_inode:{kind}")
        if number:
            out[int(entry)] = number
    return out


def cpu_seconds(pid):
    """User + system CPU time of a live process in seconds (its threads, not its children)."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(command, **options):
    """Starts a process and makes sure that it, and it alone, is gone at the end."""
    process = subprocess.Popen(list(map(os.fspath, command)), **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait(timeout=20)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


def become_nobody():
    """For preexec_fn: uid and gid 65534, no groups, no capabilities left."""
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
