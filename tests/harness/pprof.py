"""Reading a profile back: an independent parser (protoc's own Python) and the real `go tool pprof`."""
import gzip
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from .paths import ROOT, build_dir, find_go

KERNEL = "[kernel"


def proto_module():
    """profile_pb2, made by protoc from output/profile.proto into $O/tests when missing or old."""
    folder, source = build_dir() / "tests", ROOT / "output" / "profile.proto"
    made = folder / "profile_pb2.py"
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as half:  # another worker may be about to read it
            subprocess.run(["protoc", f"--proto_path={source.parent}", f"--python_out={half}", str(source)],
                           check=True, timeout=60)
            os.replace(Path(half) / made.name, made)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    import profile_pb2  # noqa: E402  pylint: disable=import-outside-toplevel,import-error
    return profile_pb2


class Frame:
    """One frame of a stack as displayed: inlined functions are frames of their own."""

    __slots__ = ("name", "system_name", "file", "line", "location", "mapping", "mapping_file")

    def __init__(self, function, line, location, mapping, mapping_file):
        self.name, self.system_name, self.file = function
        self.line, self.location, self.mapping, self.mapping_file = line, location, mapping, mapping_file

    @property
    def is_reason(self):
        """Whether this is no code but the named reason why the stack ends here."""
        return self.mapping is None and self.name.startswith("[") and self.name.endswith("]")

    @property
    def is_kernel(self):
        return self.mapping_file.startswith(KERNEL)

    def __repr__(self):
        return self.name


class Sample:
    """One sample: leaf-first frames, values by sample type, labels."""

    __slots__ = ("frames", "values", "labels", "location_ids")

    def __init__(self, frames, values, labels, location_ids):
        self.frames, self.values, self.labels, self.location_ids = frames, values, labels, location_ids

    @property
    def names(self):
        return [f.name for f in self.frames]


class Profile:
    """A profile as a test wants to see it. `.proto` is the raw message, `.raw` its bytes."""

    def __init__(self, path):
        packed = Path(path).read_bytes()
        self.raw = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
        self.proto = proto_module().Profile()
        self.proto.ParseFromString(self.raw)
        self.strings = list(self.proto.string_table)
        self.types = [(self.strings[t.type], self.strings[t.unit]) for t in self.proto.sample_type]
        self.mappings = {m.id: m for m in self.proto.mapping}
        self.functions = {f.id: f for f in self.proto.function}
        self.comments = [self.strings[c] for c in self.proto.comment]
        self._frames = {loc.id: self._location_frames(loc) for loc in self.proto.location}
        self.samples = [self._sample(s) for s in self.proto.sample]

    def mapping_file(self, mapping_id):
        """File name of a mapping; "" for none."""
        mapping = self.mappings.get(mapping_id)
        return self.strings[mapping.filename] if mapping else ""

    def _location_frames(self, loc):
        mapping, frames = self.mappings.get(loc.mapping_id), []
        for line in loc.line:
            f = self.functions[line.function_id]
            names = (self.strings[f.name], self.strings[f.system_name], self.strings[f.filename])
            frames.append(Frame(names, line.line, loc, mapping, self.mapping_file(loc.mapping_id)))
        return frames

    def _sample(self, s):
        labels = {self.strings[x.key]: self.strings[x.str] if x.str else x.num for x in s.label}
        frames = [f for loc in s.location_id for f in self._frames[loc]]
        return Sample(frames, dict(zip((t for t, _ in self.types), s.value)), labels,
                      tuple(s.location_id))

    @property
    def duration_seconds(self):
        return self.proto.duration_nanos / 1e9

    def total(self, sample_type="cpu"):
        """Sum of one value column."""
        return sum(s.values[sample_type] for s in self.samples)

    def flat(self, sample_type="cpu"):
        """{leaf function name: value}."""
        out = defaultdict(int)
        for s in self.samples:
            out[s.frames[0].name if s.frames else ""] += s.values[sample_type]
        return dict(out)

    def cum(self, sample_type="cpu"):
        """{function name: value of samples in which it occurs}."""
        out = defaultdict(int)
        for s in self.samples:
            for name in {f.name for f in s.frames}:
                out[name] += s.values[sample_type]
        return dict(out)

    def leaf_physical(self, sample_type="cpu"):
        """{(file name of the mapping, symbol of the physical leaf function): value}."""
        out = defaultdict(int)
        for s in self.samples:
            frames = self._frames[s.location_ids[0]]
            last = frames[-1]
            out[(last.mapping_file, last.system_name or last.name)] += s.values[sample_type]
        return dict(out)

    def having(self, *names, sample_type="cpu"):
        """Value of the samples whose names contain all of `names` in this leaf-first order."""
        total = 0
        for s in self.samples:
            rest = iter(s.names)
            if all(any(n == want for n in rest) for want in names):
                total += s.values[sample_type]
        return total


def go_pprof(*args, tmp=None, check=True, timeout=120):
    """Runs `go tool pprof ARGS`. Returns the finished process (text)."""
    go = find_go()
    if not go:
        raise FileNotFoundError("go is not installed (apt-get install golang-go)")
    env = {**os.environ, "PPROF_TMPDIR": str(tmp or build_dir() / "tests" / "pprof"),
           "PPROF_BINARY_PATH": "/nonexistent", "GOFLAGS": ""}
    env.setdefault("HOME", str(build_dir() / "tests"))
    Path(env["PPROF_TMPDIR"]).mkdir(parents=True, exist_ok=True)
    done = subprocess.run([go, "tool", "pprof", *map(str, args)], env=env, text=True, check=False,
                          errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, timeout=timeout, cwd=env["PPROF_TMPDIR"])
    if check and done.returncode:
        raise AssertionError(f"go tool pprof {args} ended with {done.returncode}:\n{done.stderr}")
    return done
