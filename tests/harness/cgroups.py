"""A control group of our own, where the machine lets us make one."""
import contextlib
import os
import time
from pathlib import Path


def mount():
    """Where the cgroups are mounted that perf events know; None when nowhere."""
    found = None
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        path = Path(fields.split(" ")[4])
        if kind == "cgroup" and "perf_event" in options.split(","):
            return path
        if kind == "cgroup2" and found is None:
            found = path
    lines = Path("/proc/cgroups").read_text(encoding="ascii").splitlines()
    hierarchies = dict(line.split()[:2] for line in lines)
    return found if hierarchies.get("perf_event", "0") == "0" else None


@contextlib.contextmanager
def group(name):
    """A new cgroup with a child: (path, path of the child); None where none can be made."""
    root = mount()
    path = root / name if root else None
    try:
        if path:
            (path / "nested").mkdir(parents=True)
    except OSError:
        path = None
    try:
        yield (path, path / "nested") if path else None
    finally:
        for folder in (path / "nested", path) if path else ():
            remove(folder)


def remove(folder, seconds=10):
    """Removes an empty cgroup; its last member may still be on its way out."""
    end = time.monotonic() + seconds
    while folder.exists():
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def join(folder, pid=0):
    """Moves a process into a cgroup."""
    with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as file:
        file.write(str(pid))
