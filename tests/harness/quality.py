"""How good a profile is, judged from outside: complete stacks, and agreement of leaf functions with perf."""
import functools
import os
import re
import subprocess
from collections import Counter, defaultdict

from . import elf

ROOT_NAMES = {"_start", "clone", "clone3", "__clone", "__clone3", "__GI___clone", "__GI___clone3",
              "_dl_start_user", "thread_start"}
LIBC = re.compile(r"/(libc[.-]|ld-linux|ld-2)")


def ending(profile, sample):
    """How a stack ends: "complete", "kernel only", a reason "[...]", or "cut at NAME"."""
    frames = sample.frames
    root = frames[-1]
    if root.is_reason:
        return "kernel only" if root.name == "[kernel]" else root.name
    if root.is_kernel:
        return "kernel only"
    if root.name in ROOT_NAMES or root.system_name in ROOT_NAMES:
        return "complete"
    address = elf.elf_addr(profile, root)
    if address is not None:
        start = elf.entry(root.mapping_file)
        if start <= address < start + elf.ENTRY_BYTES:
            return "complete"
        if LIBC.search(root.mapping_file) and \
                any(a <= address < b for a, b in elf.outermost_ranges(root.mapping_file)):
            return "complete"
    return f"cut at {os.path.basename(root.mapping_file)}: {root.name}"


def endings(profile, sample_type="samples"):
    """{ending: value} over all samples."""
    out = Counter()
    for s in profile.samples:
        out[ending(profile, s)] += s.values[sample_type]
    return out


def complete_share(profile):
    """Share of the samples with user frames whose stack reaches the thread's entry."""
    all_endings = endings(profile)
    user = sum(v for k, v in all_endings.items() if k != "kernel only")
    return all_endings["complete"] / user if user else 1.0


def unnamed_endings(profile):
    """The endings that are neither complete nor marked with a reason: {ending: samples}."""
    return {k: v for k, v in endings(profile).items() if k.startswith("cut at")}


# --- leaf functions, ours and perf's, under one roof -------------------------------------------

@functools.lru_cache(maxsize=64)
def readable_names(file):
    """{symbol of the file: its name as perf shows it, demangled without parameters}."""
    names = list(elf.symbols(file))
    done = subprocess.run(["c++filt", "-p"], input="\n".join(names), check=True, text=True, timeout=120,
                          stdout=subprocess.PIPE)
    return dict(zip(names, done.stdout.split("\n")))


@functools.lru_cache(maxsize=64)
def by_readable_name(file):
    """The other way round."""
    return {readable: name for name, readable in readable_names(file).items()}


def plain_name(name):
    """A symbol without clone suffix and version."""
    return re.sub(r"\.(part|isra|constprop|cold|lto_priv)[.\d]*|@.*|\[clone.*", "", name).strip()


def leaf_key(file, symbol, offset=None):
    """(file, function) in the one form in which ours and perf's are compared.

    Functions with several names (memcpy, __memcpy_avx...) become one; a name whose symbol does not
    cover the place (offset known) and unnamed places become "?"; code of no file becomes "jit".
    """
    base = os.path.basename(file)
    if file.startswith("[kernel") or file.startswith("[guest.kernel") or symbol == "[kernel]":
        return ("kernel", symbol if symbol and not symbol.startswith("[") else "?")
    if file.startswith("[vdso"):
        return ("[vdso]", plain_name(symbol))
    if not file.startswith("/") or base.startswith("perf-"):
        return ("jit", "?")
    if symbol in ("", "[unknown]") or re.search(r"\+0x[0-9a-f]+$", symbol) or "@plt" in symbol:
        return (base, "?")
    name, known = symbol.split("@")[0], None
    if os.path.isfile(file):
        known = elf.symbols(file).get(name) or elf.symbols(file).get(by_readable_name(file).get(name))
    if known:
        address, size = known
        if size and offset is not None and offset >= size:
            return (base, "?")
        if size:
            return (base, plain_name(readable_names(file)[names_by_address(file)[address]]))
    return (base, plain_name(symbol))


@functools.lru_cache(maxsize=64)
def names_by_address(file):
    """{address: first of its names in order of length and letters}."""
    out = {}
    for name, (address, size) in elf.symbols(file).items():
        if size and (address not in out or (len(name), name) < (len(out[address]), out[address])):
            out[address] = name
    return out


def our_leaves(profile):
    """{(file, function): samples} of a profile of ours."""
    out = defaultdict(int)
    for (file, symbol), value in profile.leaf_physical("samples").items():
        out[leaf_key(file, symbol)] += value
    return dict(out)


PERF_LINE = re.compile(r"^\s*([0-9a-f]+) (.*) \((.*)\)\s*$")


def perf_leaves(data):
    """{(file, function): samples} of a perf.data that holds no callchains."""
    done = subprocess.run(["perf", "script", "--no-inline", "-F", "ip,sym,symoff,dso", "-i", str(data)],
                          check=True, text=True, errors="replace", timeout=300, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out = defaultdict(int)
    for line in done.stdout.splitlines():
        found = PERF_LINE.match(line)
        if not found:
            continue
        symbol, _, offset = found.group(2).rpartition("+0x")
        if not symbol:
            symbol, offset = found.group(2), "0"
        out[leaf_key(found.group(3), symbol, int(offset, 16))] += 1
    return dict(out)


def total_variation(left, right, above=0.01):
    """Distance of two distributions, 0..1. Functions below `above` in both are one."""
    sums = [sum(side.values()) or 1 for side in (left, right)]
    keys = {k for k in {*left, *right}
            if left.get(k, 0) / sums[0] > above or right.get(k, 0) / sums[1] > above}
    rest = [1.0, 1.0]
    distance = 0.0
    for k in keys:
        shares = left.get(k, 0) / sums[0], right.get(k, 0) / sums[1]
        distance += abs(shares[0] - shares[1])
        rest = [rest[0] - shares[0], rest[1] - shares[1]]
    return (distance + abs(rest[0] - rest[1])) / 2


def worst_differences(left, right, number=6):
    """The functions on which two distributions differ most, as text."""
    sums = [sum(side.values()) or 1 for side in (left, right)]
    rows = sorted(((left.get(k, 0) / sums[0], right.get(k, 0) / sums[1], k) for k in {*left, *right}),
                  key=lambda r: -abs(r[0] - r[1]))
    return "; ".join(f"{k[0]}:{k[1]} {a:.1%} {b:.1%}" for a, b, k in rows[:number])
