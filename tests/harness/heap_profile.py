"""Heap profiles made by hand: what a test wants `report` and `go tool pprof` to agree on."""
import gzip
from pathlib import Path

from .pprof import proto_module

TYPES = [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]
RATE = 512 << 10


class HeapProfile:
    """A profile with Go's four columns. Functions are known by name, each at a place of its own."""

    def __init__(self, rate=RATE, time_ns=10 ** 18):
        self.proto = proto_module().Profile()
        self.strings, self.places = {"": 0}, {}
        for name, unit in TYPES:
            self.proto.sample_type.add(type=self.string(name), unit=self.string(unit))
        self.proto.default_sample_type = self.string("inuse_space")
        self.proto.period_type.type, self.proto.period_type.unit = self.string("space"), self.string("bytes")
        self.proto.period, self.proto.time_nanos = rate, time_ns
        self.proto.mapping.add(id=1, memory_start=0x1000, memory_limit=0x100000, filename=self.string("/app"),
                               has_functions=True)

    def string(self, text):
        return self.strings.setdefault(text, len(self.strings))

    def place(self, name):
        """The location of a function; of a remark in brackets, one without a mapping."""
        if name not in self.places:
            number = self.places[name] = len(self.places) + 1
            self.proto.function.add(id=number, name=self.string(name))
            location = self.proto.location.add(id=number)
            location.line.add(function_id=number)
            if not name.startswith("["):
                location.mapping_id, location.address = 1, 0x1000 + sum(map(ord, name)) * 16
        return self.places[name]

    def add(self, stack, values, **labels):
        """Adds a row: names leaf first, separated by spaces or as a list; four values; numeric labels."""
        names = stack.split() if isinstance(stack, str) else stack
        sample = self.proto.sample.add(location_id=[self.place(n) for n in names], value=values)
        for key, number in labels.items():
            unit = self.string("bytes") if key in ("bytes", "rate") else 0
            sample.label.add(key=self.string(key), num=number, num_unit=unit)

    def write(self, path):
        del self.proto.string_table[:]
        self.proto.string_table.extend(self.strings)
        Path(path).write_bytes(gzip.compress(self.proto.SerializeToString(), mtime=0))
        return path
