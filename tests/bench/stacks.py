"""How many stacks of a recorder's file are complete, judged alike for all: by where their outermost frame lies.

A stack is complete when its outermost frame is in the entry point of its file (_start), in a function whose unwind
table says that nobody called it (clone3, _dl_start_user), or bears the name of one. Stacks of the kernel
alone (a thread in the making, an interrupt at exit) have no such end and are left out.
"""
import functools
import gzip
import json
import re
from pathlib import Path

from harness import elf, quality
from harness.pprof import Profile

ROOT_NAMES = quality.ROOT_NAMES | {"__GI___clone_internal", "runtime.mstart", "runtime.goexit", "runtime.rt0_go"}
# perf 6.1 prints an address in a file as its offset there; older ones print the address in the process.
PROCESS_ADDRESS = 1 << 36
HEAD = re.compile(r"^(\S.*?|\s+\S.*?)\s+-?\d+(?:/-?\d+)?\s")
FRAME = re.compile(r"^\s+([0-9a-f]+)\s+(.*?)(?:\+0x[0-9a-f]+)? \(([^()]*(?:\([^()]*\))?[^()]*)\)\s*$")
# Not the target: the recorder in its child before the exec.
NOT_YET = re.compile(r"^(perf|perf-exec|samply|unshare|cprofiler)$")


class Judged:
    """Samples counted: .samples, .kernel_only, .complete; .share of those with user frames."""

    def __init__(self):
        self.samples = self.kernel_only = self.complete = 0

    def add(self, weight, has_user, is_complete):
        """Counts a stack."""
        self.samples += weight
        if not has_user:
            self.kernel_only += weight
        elif is_complete:
            self.complete += weight

    @property
    def share(self):
        """Share of the samples with user frames that are complete; None when there is none."""
        user = self.samples - self.kernel_only
        return self.complete / user if user else None


@functools.lru_cache(maxsize=1000)
def root_ranges(path):
    """[(file offset, limit)] of the outermost functions of a file."""
    if not path.startswith("/") or not Path(path).is_file():
        return ()
    ranges = [(elf.entry(path), elf.entry(path) + elf.ENTRY_BYTES)]
    if quality.LIBC.search(path):
        ranges += elf.outermost_ranges(path)
    return tuple((file_offset(path, start), file_offset(path, start) + limit - start) for start, limit in ranges)


def file_offset(path, address):
    """Linked address -> offset in the file."""
    return next((offset + address - start for offset, start, size in elf.segments(path)
                 if start <= address < start + size), address)


def is_root(name, path, address):
    """Whether a frame is an outermost function. address: in the file, or in the process when it is that big."""
    if name in ROOT_NAMES:
        return True
    if address >= PROCESS_ADDRESS:
        return any((address & 0xfff) - (start & 0xfff) in range(limit - start) for start, limit in root_ranges(path))
    return any(start <= address < limit for start, limit in root_ranges(path))


# --- perf --------------------------------------------------------------------------------------

PERF_FIELDS = "comm,tid,ip,sym,symoff,dso"


def judge_perf(lines):
    """Judges what `perf script --no-inline --max-stack 4096 -F PERF_FIELDS` prints."""
    out, comm, frames = Judged(), None, []

    def add():
        if comm is not None and not NOT_YET.match(comm) and frames:
            user = [frame for frame in frames if not is_kernel(frame)]
            out.add(1, bool(user), bool(user) and is_root(user[-1][1], user[-1][2], user[-1][0]))

    for line in lines:
        found = FRAME.match(line)
        if found and comm is not None:
            frames.append((int(found.group(1), 16), found.group(2), found.group(3)))
        elif not line.strip():
            add()
            comm, frames = None, []
        elif comm is None:
            head = HEAD.match(line)
            comm = head.group(1).strip() if head else line.split()[0]
    add()
    return out


def is_kernel(frame):
    """Whether an (address, name, file) is code of the kernel."""
    address, _, path = frame
    return address >> 63 == 1 or path.startswith(("[kernel", "[guest.kernel"))


# --- samply ------------------------------------------------------------------------------------

def judge_samply(path):
    """Judges a profile of samply, in the Firefox profiler's format, without symbols."""
    raw = Path(path).read_bytes()
    profile = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    kernel = {i for i, c in enumerate(profile["meta"]["categories"]) if c["name"] == "Kernel"}
    out = Judged()
    for thread in profile["threads"]:
        if NOT_YET.match(thread["name"]):
            continue
        for stack, weight in stack_weights(thread["samples"]):
            judge_samply_stack(profile, thread, stack, weight, kernel, out)
    return out


def stack_weights(samples):
    """(index of the stack, weight) of the samples of a thread. Weight 0: a mere mark that it slept."""
    weights = samples.get("weight") or [1] * samples["length"]
    return [(s, w) for s, w in zip(samples["stack"], weights) if s is not None and w]


def judge_samply_stack(profile, thread, stack, weight, kernel, out):
    """Counts one stack. The frames are read from the leaf outwards."""
    table, frames, root = thread["stackTable"], thread["frameTable"], None
    while stack is not None:
        frame = table["frame"][stack]
        if frames["category"][frame] not in kernel:
            root = frame
        stack = table["prefix"][stack]
    is_complete = False
    if root is not None:
        function = thread["funcTable"]
        resource = function["resource"][frames["func"][root]]
        library = thread["resourceTable"]["lib"][resource] if resource is not None and resource >= 0 else None
        if library is not None:
            path = profile["libs"][library]["path"]
            base = min((a & ~0xfff for _, a, _ in elf.segments(path)), default=0) if Path(path).is_file() else 0
            is_complete = is_root("", path, file_offset(path, base + frames["address"][root]))
    out.add(weight, root is not None, is_complete)


# --- folded text, gdb, ours --------------------------------------------------------------------

def judge_folded(text):
    """Judges lines "comm;outermost;...;leaf COUNT" (bcc's profile -f)."""
    out = Judged()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        if stack and count.isdigit():
            frames = [f for f in stack.split(";")[1:] if not f.endswith("_[k]")]
            out.add(int(count), bool(frames), bool(frames) and frames[0] in ROOT_NAMES)
    return out


def judge_gdb(text, program=""):
    """Judges what gdb prints for `thread apply all bt`: each thread is a stack. program: its unnamed _start counts, too."""
    out = Judged()
    for part in re.split(r"^Thread \d+ ", text, flags=re.M)[1:]:
        frames = re.findall(r"^#\d+ +(?:0x([0-9a-f]+) in )?([^\s(]+)", part, re.M)
        if frames:
            out.add(1, True, is_root(frames[-1][1], program, int(frames[-1][0] or "0", 16)))
    return out


def judge_ours(path):
    """Judges a profile of ours by the same rule; stacks with a reason at their end are not complete."""
    out, endings = Judged(), quality.endings(Profile(path))
    out.samples, out.kernel_only, out.complete = sum(endings.values()), endings["kernel only"], endings["complete"]
    return out
