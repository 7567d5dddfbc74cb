"""What a test must know of an ELF file, from binutils: symbols, segments, entry, outermost functions."""
import bisect
import functools
import os
import re
import subprocess

ENTRY_BYTES = 64  # _start is shorter than this


def run_readelf(*flags):
    """Output of readelf; empty when the file is no ELF or gone."""
    done = subprocess.run(["readelf", "-W", *flags], check=False, text=True, errors="replace", timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout


@functools.lru_cache(maxsize=64)
def segments(path):
    """[(file offset, virtual address, bytes in the file)] of the loaded segments."""
    out = []
    for line in run_readelf("-l", path).splitlines():
        field = line.split()
        if field[:1] == ["LOAD"]:
            out.append((int(field[1], 16), int(field[2], 16), int(field[4], 16)))
    return out


def elf_addr(profile, frame):
    """The address of a frame as linked in its file; None when the file is out of reach."""
    m = frame.mapping
    if m is None or not os.path.isfile(frame.mapping_file):
        return None
    offset = frame.location.address - m.memory_start + m.file_offset
    for start, vaddr, size in segments(frame.mapping_file):
        if start <= offset < start + size + 0x1000:
            return vaddr + offset - start
    return None


@functools.lru_cache(maxsize=64)
def entry(path):
    """Address of the first instruction."""
    found = re.search(r"Entry point address:\s+0x([0-9a-f]+)", run_readelf("-h", path))
    return int(found.group(1), 16) if found else 0


@functools.lru_cache(maxsize=8)
def outermost_ranges(path):
    """[(start, limit)] of the functions whose unwind table says: nobody called me (_start, clone3)."""
    out, current = [], None
    for line in run_readelf("--debug-dump=frames", path).splitlines():
        found = re.search(r" FDE .*pc=([0-9a-f]+)\.\.([0-9a-f]+)", line)
        if found:
            current = (int(found.group(1), 16), int(found.group(2), 16))
        elif current and "DW_CFA_undefined: r16" in line:
            out.append(current)
            current = None
    return out


def build_id(path):
    """The build-id in hex; "" when there is none."""
    found = re.search(r"Build ID: ([0-9a-f]{6,})", run_readelf("-n", path))
    return found.group(1) if found else ""


def debug_file(path):
    """The separate debug file of `path` by build-id, None when not installed."""
    found = build_id(path)
    name = f"/usr/lib/debug/.build-id/{found[:2]}/{found[2:]}.debug"
    return name if found and os.path.exists(name) else None


@functools.lru_cache(maxsize=64)
def symbols(path):
    """{name: (address, size)} of all functions in both symbol tables and in the debug file."""
    out = {}
    for file in filter(None, (path, debug_file(path))):
        for line in run_readelf("-s", "--dyn-syms", file).splitlines():
            field = line.split()
            if len(field) >= 8 and field[0].endswith(":") and field[3] in ("FUNC", "IFUNC", "NOTYPE") \
                    and field[6] not in ("UND", "ABS"):
                size = int(field[2], 16 if field[2].startswith("0x") else 10)
                name = field[7].split("@")[0]
                if name not in out or out[name][1] < size:
                    out[name] = (int(field[1], 16), size)
    return out


class Ranges:
    """address -> name of the function that covers it, for files whose symbols we know."""

    def __init__(self, path):
        rows = sorted((a, a + s, n) for n, (a, s) in symbols(path).items() if s)
        self.starts, self.rows = [r[0] for r in rows], rows

    def name(self, address):
        """The covering function, None when there is none."""
        i = bisect.bisect_right(self.starts, address) - 1
        while i >= 0 and self.rows[i][0] + (1 << 16) > address:
            if address < self.rows[i][1]:
                return self.rows[i][2]
            i -= 1
        return None
