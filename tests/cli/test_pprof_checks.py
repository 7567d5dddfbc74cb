"""Each structure rule of pprof_checks can fail: a good file passes, and each way of breaking it is seen."""
import gzip
from types import SimpleNamespace

import pytest

import pprof_checks as checks
from harness.heap_profile import RATE, HeapProfile
from harness.pprof import Profile, proto_module


def good_message():
    """A small message that follows all rules."""
    proto = proto_module().Profile()
    strings = {"": 0}

    def string(text):
        return strings.setdefault(text, len(strings))

    for name, unit in (("samples", "count"), ("cpu", "nanoseconds")):
        proto.sample_type.add(type=string(name), unit=string(unit))
    proto.period_type.type, proto.period_type.unit, proto.period = string("cpu"), string("nanoseconds"), 10 ** 7
    proto.mapping.add(id=1, memory_start=0x1000, memory_limit=0x2000, filename=string("/app"),
                      has_functions=True)
    for number, name in enumerate(("leaf", "main", "[truncated]", "/app+0x30"), 1):
        proto.function.add(id=number, name=string(name))
    for number in (1, 2):
        proto.location.add(id=number, mapping_id=1, address=0x1000 + number).line.add(function_id=number)
    proto.location.add(id=3).line.add(function_id=3)
    proto.location.add(id=4, mapping_id=1, address=0x1030).line.add(function_id=4)
    for stack, count in (([1, 2], 5), ([1, 3], 1), ([4, 2], 2)):
        sample = proto.sample.add(location_id=stack, value=[count, count * 10 ** 7])
        sample.label.add(key=string("pid"), num=7)
        sample.label.add(key=string("thread_name"), str=string("app"))
    proto.time_nanos, proto.duration_nanos = 10 ** 18, 10 ** 9
    proto.comment.append(string("cprofiler 0"))
    proto.string_table.extend(strings)
    return proto


def as_profile(proto, folder):
    """The message as a test sees a file: (profile, packed bytes)."""
    packed = gzip.compress(proto.SerializeToString(), mtime=0)
    path = folder / "made.pprof"
    path.write_bytes(packed)
    return Profile(path), packed


def test_good_file_passes(tmp_path):
    profile, packed = as_profile(good_message(), tmp_path)
    checks.check_structure(profile, packed)
    checks.check_26_cpu_types(profile, 100)


def set_value(sample, *values):
    del sample.value[:]
    sample.value.extend(values)


# rule: [what breaks it]
BREAKS = {
    checks.check_02_string_table: [
        lambda p: p.string_table.insert(0, "x"),
        lambda p: p.string_table.append("cpu"),
        lambda p: setattr(p.mapping[0], "filename", 99),
        lambda p: setattr(p.sample[0].label[0], "key", -1),
        lambda p: setattr(p, "default_sample_type", 99),
    ],
    checks.check_04_dense_ids: [
        lambda p: setattr(p.location[3], "id", 9),
        lambda p: setattr(p.function[0], "id", 2),
        lambda p: setattr(p.mapping[0], "id", 3),
        lambda p: p.sample[0].location_id.append(77),
        lambda p: setattr(p.location[0].line[0], "function_id", 77),
        lambda p: setattr(p.location[0], "mapping_id", 2),
        lambda p: setattr(p.sample[0].label[0], "key", 0),
    ],
    checks.check_05_sample_values: [
        lambda p: set_value(p.sample[0], 1),
        lambda p: set_value(p.sample[0], 0, 0),
        lambda p: set_value(p.sample[0], 1, -1),
        lambda p: set_value(p.sample[0], 1, 1 << 53),
        lambda p: p.sample[0].ClearField("location_id"),
    ],
    checks.check_06_nothing_twice_or_unused: [
        lambda p: p.sample.add().CopyFrom(p.sample[0]),
        lambda p: p.location.add(id=5),
        lambda p: p.function.add(id=5),
        lambda p: p.mapping.add(id=2),
    ],
    checks.check_07_known_fields_once: [
        lambda p: setattr(p, "doc_url", 1),
    ],
    checks.check_12_addresses_lie_in_mappings: [
        lambda p: setattr(p.location[0], "address", 0x2000),
        lambda p: setattr(p.location[0], "address", 0xFFF),
        lambda p: setattr(p.location[0], "mapping_id", 0),
    ],
    checks.check_14_has_functions: [
        lambda p: setattr(p.mapping[0], "has_functions", False),
    ],
    checks.check_24_every_location_has_a_line: [
        lambda p: p.location[0].ClearField("line"),
        lambda p: setattr(p.function[0], "name", 0),
        lambda p: setattr(p.location[0].line[0], "function_id", 4),
    ],
    checks.check_25_reasons_are_roots: [
        lambda p: p.sample[1].location_id.append(2),
        lambda p: setattr(p.location[2], "address", 5),
        lambda p: p.location[2].line.add(function_id=1),
        lambda p: setattr(p.location[2].line[0], "function_id", 1),
    ],
}


def find_string(proto, text):
    return list(proto.string_table).index(text)


CPU_BREAKS = [
    lambda p: setattr(p, "period", 1),
    lambda p: set_value(p.sample[0], 5, 1),
    lambda p: setattr(p.sample_type[0], "type", find_string(p, "cpu")),
    lambda p: setattr(p.period_type, "unit", find_string(p, "count")),
    lambda p: setattr(p, "default_sample_type", find_string(p, "cpu")),
]
HEAP_BREAKS = [
    lambda p: setattr(p, "period", 1),
    lambda p: setattr(p, "default_sample_type", 0),
    lambda p: setattr(p.period_type, "type", 0),
    lambda p: setattr(p.sample_type[0], "type", p.sample_type[2].type),
    lambda p: set_value(p.sample[0], 2, 128, 3, 192),
    lambda p: set_value(p.sample[0], 2, 128, 1, 129),
    lambda p: set_value(p.sample[0], 0, 128, 0, 0),
    lambda p: set_value(p.sample[0], 2, 500, 1, 64),
    lambda p: set_value(p.sample[1], 1, 0, 0, 64),
    lambda p: p.sample[0].ClearField("label"),
    lambda p: setattr(p.sample[0].label[0], "num_unit", 0),
    lambda p: setattr(p.sample[0].label[1], "num", RATE),
]


def heap_message():
    """A small heap profile that follows all rules."""
    made = HeapProfile()
    made.add("f main", [2, 128, 1, 64], bytes=64, rate=2 * RATE)
    made.add(["[untracked]"], [0, 0, 0, 64])
    made.proto.string_table.extend(made.strings)
    return made.proto


@pytest.mark.parametrize("number", range(len(HEAP_BREAKS)))
def test_broken_heap_message_is_seen(number, tmp_path):
    proto = heap_message()
    checks.check_27_heap_types(as_profile(proto, tmp_path)[0], RATE)
    HEAP_BREAKS[number](proto)
    with pytest.raises((AssertionError, KeyError)):
        checks.check_27_heap_types(as_profile(proto, tmp_path)[0], RATE)


BREAKS[lambda profile: checks.check_26_cpu_types(profile, 100)] = CPU_BREAKS

CASES = [(rule, change) for rule, changes in BREAKS.items() for change in changes]


class LooseProfile:
    """What the rules look at, also of messages that harness.pprof cannot follow."""

    def __init__(self, proto):
        self.proto, self.raw, self.strings = proto, proto.SerializeToString(), list(proto.string_table)
        self.mappings = {m.id: m for m in proto.mapping}
        self.functions = {f.id: f for f in proto.function}
        self.types = [(self.strings[t.type], self.strings[t.unit]) for t in proto.sample_type]
        self.samples = [SimpleNamespace(frames=[self.frame(i) for i in s.location_id]) for s in proto.sample]

    def frame(self, location_id):
        found = [x for x in self.proto.location if x.id == location_id]
        name = ""
        if found and found[0].line and found[0].line[0].function_id in self.functions:
            name = self.strings[self.functions[found[0].line[0].function_id].name]
        return SimpleNamespace(name=name, is_reason=name.startswith("["))


@pytest.mark.parametrize("number", range(len(CASES)))
def test_broken_message_is_seen(number):
    rule, change = CASES[number]
    proto = good_message()
    rule(LooseProfile(proto))
    change(proto)
    with pytest.raises(AssertionError):
        rule(LooseProfile(proto))


def test_broken_envelope_is_seen():
    packed = gzip.compress(good_message().SerializeToString(), mtime=0)
    checks.check_01_one_gzip_member(packed)
    for broken in (packed[:-1], packed + packed, packed + b"x", b"x" + packed, gzip.decompress(packed)):
        with pytest.raises(AssertionError):
            checks.check_01_one_gzip_member(broken)


def test_broken_text_is_seen():
    raw = good_message().SerializeToString()
    checks.check_03_valid_utf8(raw)
    for text in (b"\xff", b"\xed\xa0\x80", b"a\x1bb", b"a\nb"):
        with pytest.raises((AssertionError, UnicodeDecodeError)):
            checks.check_03_valid_utf8(raw + b"\x32" + bytes([len(text)]) + text)


def test_repeated_and_unknown_fields_are_seen(tmp_path):
    proto = good_message()
    for extra in (b"\x48\x01", b"\x50\x01", b"\x80\x01\x01"):
        profile, _ = as_profile(proto, tmp_path)
        checks.check_07_known_fields_once(profile)
        profile.raw += extra
        with pytest.raises(AssertionError):
            checks.check_07_known_fields_once(profile)


def test_other_encodings_and_times_are_seen(tmp_path):
    profile, packed = as_profile(good_message(), tmp_path)
    checks.check_08_encoding_is_stable(profile, packed)
    raw = profile.raw
    for broken_raw, broken_packed in ((raw + b"\x6a\x00", packed), (raw, gzip.compress(raw, mtime=1)),
                                      (raw, packed[:3] + b"\x08" + packed[4:])):
        profile.raw = broken_raw
        with pytest.raises(AssertionError):
            checks.check_08_encoding_is_stable(profile, broken_packed)
