"""What a pprof file of ours must be like, each rule one function: it raises AssertionError when broken.

Structure rules work on a `harness.pprof.Profile` (Python protobuf, `.raw` the inflated bytes, `.proto` the
message), run rules on `go_pprof`, a function that runs the real `go tool pprof`. Numbers are those of the
conformance checklist. tests/cli/test_pprof_checks.py shows that each rule can fail.
"""
import re
import zlib

MAX_VALUE = 1 << 53  # JavaScript consumers lose larger integers
TOP_LEVEL_FIELDS = range(1, 15)  # Perfetto refuses files with others
ONCE_FIELDS = (7, 8, 9, 10, 11, 12, 14)
WIRE_VARINT, WIRE_FIXED64, WIRE_BYTES, WIRE_FIXED32 = 0, 1, 2, 5
REASON_NAME = re.compile(r"^\[[a-z0-9 -]+\]$")


def wire_fields(raw):
    """[(field number, contents)] of the top level of an encoded message."""
    out, position = [], 0

    def varint():
        nonlocal position
        value = shift = 0
        while True:
            byte = raw[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(raw):
        tag = varint()
        kind = tag & 7
        assert kind in (WIRE_VARINT, WIRE_FIXED64, WIRE_BYTES, WIRE_FIXED32), f"wire type {kind}"
        if kind == WIRE_VARINT:
            contents = varint()
        else:
            length = varint() if kind == WIRE_BYTES else 8 if kind == WIRE_FIXED64 else 4
            contents = raw[position:position + length]
            assert len(contents) == length, "a field runs over the end"
            position += length
        out.append((tag >> 3, contents))
    return out


def check_01_one_gzip_member(packed):
    """The file is one gzip member that inflates fully."""
    assert packed[:2] == b"\x1f\x8b", f"starts with {packed[:2]!r}"
    inflater = zlib.decompressobj(wbits=31)
    inflater.decompress(packed)
    assert inflater.eof, "the gzip member does not end"
    assert inflater.unused_data == b"", "something follows the gzip member"


def check_01_go_pprof_is_silent(go_pprof, path):
    """`go tool pprof -raw` accepts it without a word on stderr."""
    done = go_pprof("-raw", path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr


def string_indices(proto):
    """Every string index in the file."""
    for t in [*proto.sample_type, proto.period_type]:
        yield from (t.type, t.unit)
    for s in proto.sample:
        for label in s.label:
            yield from (label.key, label.str, label.num_unit)
    for m in proto.mapping:
        yield from (m.filename, m.build_id)
    for f in proto.function:
        yield from (f.name, f.system_name, f.filename)
    yield from proto.comment
    yield from (proto.drop_frames, proto.keep_frames, proto.default_sample_type)


def check_02_string_table(profile):
    """String 0 is empty, none comes twice, every index is in range."""
    strings = list(profile.proto.string_table)
    assert strings and strings[0] == "", "string 0 is not empty"
    assert len(set(strings)) == len(strings), "a string comes twice"
    for index in string_indices(profile.proto):
        assert 0 <= index < len(strings), f"there is no string {index}"


def check_03_valid_utf8(raw):
    """Every string is valid UTF-8, without control characters."""
    for number, contents in wire_fields(raw):
        if number == 6:
            text = contents.decode("utf-8")  # UnicodeDecodeError is a ValueError
            assert not re.search("[\x00-\x1f\x7f]", text), f"control characters in {text!r}"


def check_04_dense_ids(profile):
    """Ids are 1..N in order, no reference dangles (Parca's rules)."""
    proto = profile.proto
    for rows in (proto.mapping, proto.location, proto.function):
        assert [r.id for r in rows] == list(range(1, len(rows) + 1)), "ids are not 1..N in order"
    for location in proto.location:
        assert 0 <= location.mapping_id <= len(proto.mapping), f"no mapping {location.mapping_id}"
        for line in location.line:
            assert 1 <= line.function_id <= len(proto.function), f"no function {line.function_id}"
    for sample in proto.sample:
        for location_id in sample.location_id:
            assert 1 <= location_id <= len(proto.location), f"no location {location_id}"
        for label in sample.label:
            assert label.key, "a label without a key"


def check_05_sample_values(profile):
    """Each sample has a stack and one value for each type: not negative, not all zero, below 2^53."""
    proto = profile.proto
    for sample in proto.sample:
        assert len(sample.value) == len(proto.sample_type), "another number of values than types"
        assert len(sample.location_id) >= 1, "a sample without a stack"
        assert any(sample.value), "a sample of zeros"
        assert all(0 <= v < MAX_VALUE for v in sample.value), f"a value out of range: {sample.value}"


def check_06_nothing_twice_or_unused(profile):
    """No two samples have equal stack and labels; nothing is written that no sample uses."""
    proto = profile.proto
    keys = [(tuple(s.location_id), tuple(sorted((x.key, x.str, x.num, x.num_unit) for x in s.label)))
            for s in proto.sample]
    assert len(set(keys)) == len(keys), "two samples with equal stack and labels"
    used = {i for s in proto.sample for i in s.location_id}
    assert {x.id for x in proto.location} == used, "a location that no sample uses"
    functions = {line.function_id for x in proto.location for line in x.line}
    assert {f.id for f in proto.function} == functions, "a function that no location uses"
    mappings = {x.mapping_id for x in proto.location} - {0}
    unused = {m.id for m in proto.mapping} - mappings
    assert unused <= {1}, f"mappings {unused} that no location uses"


def check_07_known_fields_once(profile):
    """Only fields 1 to 14 at the top level, single ones at most once, and nothing unknown inside."""
    numbers = [number for number, _ in wire_fields(profile.raw)]
    assert set(numbers) <= set(TOP_LEVEL_FIELDS), f"fields {set(numbers)}"
    for number in ONCE_FIELDS:
        assert numbers.count(number) <= 1, f"field {number} comes {numbers.count(number)} times"
    assert profile.proto.doc_url == 0
    # Unknown fields inside messages would survive in an encoding that differs from one without them.
    copy = type(profile.proto)()
    copy.CopyFrom(profile.proto)
    copy.DiscardUnknownFields()
    assert copy.SerializeToString() == profile.raw, "unknown fields inside a message"


def check_08_encoding_is_stable(profile, packed):
    """Decoding and encoding gives the same bytes; nothing in the envelope depends on when and where."""
    assert profile.proto.SerializeToString() == profile.raw, "another encoder writes other bytes"
    assert packed[3] == 0, f"gzip flags {packed[3]}: a name or comment is in the header"
    assert packed[4:8] == bytes(4), "the gzip header has a time"


def check_09_empty_profile(go_pprof, path):
    """A profile without samples is accepted and shows a total of 0."""
    done = go_pprof("-top", path)
    assert re.search(r"\b0 of 0 total|of 0 total", done.stdout), done.stdout


def check_11_main_mapping(profile, go_pprof, path, program, build_id):
    """mapping[0] is the program: pprof's header names it and its build id."""
    first = profile.proto.mapping[0]
    assert profile.strings[first.filename] == str(program)
    assert profile.strings[first.build_id] == build_id and build_id == build_id.lower()
    head = go_pprof("-top", path).stdout
    assert f"File: {str(program).rsplit('/', 1)[-1]}\n" in head, head
    assert f"Build ID: {build_id}\n" in head, head


def executable_segments(maps_text):
    """{(start, limit, file offset, path)} of the executable lines of /proc/PID/maps."""
    out = set()
    for line in maps_text.splitlines():
        fields = line.split(None, 5)
        if "x" in fields[1]:
            start, limit = (int(x, 16) for x in fields[0].split("-"))
            out.add((start, limit, int(fields[2], 16), fields[5] if len(fields) > 5 else ""))
    return out


def check_12_addresses_lie_in_mappings(profile):
    """Every location lies in its mapping; only reason frames have none."""
    for location in profile.proto.location:
        mapping = profile.mappings.get(location.mapping_id)
        if mapping is None:
            assert location.address == 0, f"{location.address:#x} without a mapping"
            continue
        assert mapping.memory_start <= location.address < mapping.memory_limit, f"{location.address:#x}"


def check_12_mappings_are_those_of_the_kernel(profile, maps_text):
    """start, limit and offset are those of a line of /proc/PID/maps."""
    segments = executable_segments(maps_text)
    seen = 0
    for mapping in profile.proto.mapping:
        path = profile.strings[mapping.filename]
        if not path.startswith(("/", "[vdso]")):
            continue
        row = (mapping.memory_start, mapping.memory_limit, mapping.file_offset, path)
        assert row in segments, f"{row} is not in maps"
        seen += path.startswith("/")
    assert seen, "no mapping of a file"


def check_14_has_functions(profile):
    """has_functions is set on every mapping with locations: pprof must not symbolize it again."""
    used = {x.mapping_id for x in profile.proto.location}
    for mapping in profile.proto.mapping:
        assert mapping.id not in used or mapping.has_functions, profile.strings[mapping.filename]


def frame_names(profile):
    """What pprof may show: {(function, file, line)} of all locations."""
    strings = profile.strings
    return {(strings[profile.functions[line.function_id].name],
             strings[profile.functions[line.function_id].filename], line.line)
            for location in profile.proto.location for line in location.line}


def check_17_kernel_frames(profile):
    """Kernel addresses lie in one mapping [kernel.kallsyms] and have names."""
    kernel = [x for x in profile.proto.location if x.address >= 1 << 63]
    assert kernel, "no kernel frames"
    assert {profile.mapping_file(x.mapping_id) for x in kernel} == {"[kernel.kallsyms]"}
    named = [x for x in kernel if not any(
        "+0x" in profile.strings[profile.functions[line.function_id].name] for line in x.line)]
    assert len(named) >= 0.9 * len(kernel), f"{len(named)} of {len(kernel)} kernel places have names"


def check_24_every_location_has_a_line(profile):
    """No location without a line; what has no name is told by module and offset, each place its own."""
    places = {}
    for location in profile.proto.location:
        assert location.line, f"location {location.id} at {location.address:#x} has no line"
        for line in location.line:
            name = profile.strings[profile.functions[line.function_id].name]
            assert name, "a function without a name"
            if re.search(r"\+0x[0-9a-f]+$", name):
                place = (location.mapping_id, location.address)
                assert places.setdefault(name, place) == place, f"{name} is two places"


def reason_samples(profile):
    """{reason: number of samples that end in it}."""
    out = {}
    for sample in profile.samples:
        last = sample.frames[-1]
        if last.is_reason:
            out[last.name] = out.get(last.name, 0) + sample.values["samples"]
    return out


def check_25_reasons_are_roots(profile):
    """Reason frames stand at the root end only, without mapping and address, one line each."""
    for sample in profile.samples:
        for frame in sample.frames[:-1]:
            assert not frame.is_reason or frame.name == "[kernel]", f"{frame.name} is not at the root"
    for location in profile.proto.location:
        if location.mapping_id == 0:
            assert location.address == 0 and len(location.line) == 1
            function = profile.functions[location.line[0].function_id]
            assert REASON_NAME.match(profile.strings[function.name]), profile.strings[function.name]
            assert function.system_name == 0 and location.line[0].line == 0


def check_26_cpu_types(profile, hz):
    """Go's own types, order and period; the time is samples x period."""
    assert profile.types == [("samples", "count"), ("cpu", "nanoseconds")], profile.types
    period_type = profile.proto.period_type
    assert (profile.strings[period_type.type], profile.strings[period_type.unit]) == ("cpu", "nanoseconds")
    assert abs(profile.proto.period - 1e9 / hz) <= 1, profile.proto.period
    assert profile.proto.default_sample_type == 0
    for sample in profile.proto.sample:
        assert sample.value[1] == sample.value[0] * profile.proto.period, list(sample.value)


HEAP_TYPES = [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]
HEAP_REMARKS = ("[allocated before attach]", "[untracked]")


def check_27_heap_types(profile, rate):
    """Go's four types, order, period and default; never more in use than allocated; sizes and rates as labels."""
    proto, strings = profile.proto, profile.strings
    assert profile.types == HEAP_TYPES, profile.types
    assert (strings[proto.period_type.type], strings[proto.period_type.unit]) == ("space", "bytes")
    assert proto.period == rate, proto.period
    assert strings[proto.default_sample_type] == "inuse_space", strings[proto.default_sample_type]
    for sample, decoded in zip(proto.sample, profile.samples):
        objects, space, live_objects, live_space = sample.value
        if decoded.frames[0].name in HEAP_REMARKS:
            assert len(decoded.frames) == 1 and (objects, space, live_objects) == (0, 0, 0), list(sample.value)
            continue
        assert (objects > 0) == (space > 0) and (live_objects > 0) == (live_space > 0), list(sample.value)
        assert live_objects <= objects and live_space <= space, list(sample.value)
        labels = {strings[x.key]: (x.num, strings[x.num_unit]) for x in sample.label if not x.str}
        size, unit = labels["bytes"]
        assert unit == "bytes" and size >= 0, labels
        assert "rate" not in labels or labels["rate"][0] != rate and labels["rate"][1] == "bytes", labels
        assert size == 0 or 0.5 < space / objects / size < 2, (labels, list(sample.value))


def check_27_go_pprof_shows_all(profile, go_pprof, path):
    """Every sample type is shown by its flag and by -sample_index, with the profile's own total."""
    for name, unit in HEAP_TYPES:
        flag = [] if unit == "count" else ["-unit=B"]
        for choice in (f"-{name}", f"-sample_index={name}"):
            text = go_pprof("-top", "-nodefraction=0", choice, *flag, path).stdout
            found = re.search(r"^Showing nodes accounting for (\d+)B?, ", text, re.M)
            assert f"Type: {name}" in text and found, text
            assert int(found.group(1)) == profile.total(name), text
    assert "Type: inuse_space" in go_pprof("-top", path).stdout


def check_30_times(profile, go_pprof, path, earliest, ended, seconds):
    """Start and end within two times (seconds since 1970), never shorter than asked, and the header says so."""
    start = profile.proto.time_nanos / 1e9
    assert earliest <= start and start + profile.duration_seconds <= ended + 0.01, (start, profile.duration_seconds)
    assert profile.duration_seconds >= seconds - 0.01, profile.duration_seconds
    assert re.search(r"^Duration: [\d.]+m?s, Total samples = ", go_pprof("-top", path).stdout, re.M)


def focused_value(go_pprof, path, *flags):
    """Sum of the samples that pprof shows with these flags, in ns."""
    text = go_pprof("-top", "-unit=ns", "-nodefraction=0", *flags, path).stdout
    found = re.search(r"^Showing nodes accounting for (\d+)(ns)?, ", text, re.M)
    assert found, text
    return int(found.group(1))


def top_rows(text):
    """[(flat, cum, name)] of a -top table, values as printed."""
    row = re.compile(r"^ *(\S+) +[\d.e-]+% +[\d.e-]+% +(\S+) +[\d.e-]+%  (.*)$", re.M)
    return row.findall(text)


def check_16_cancels_out(go_pprof, base, path):
    """Equal values in two runs leave nothing of the difference, wherever the program was loaded."""
    rows = top_rows(go_pprof("-top", "-nodefraction=0", f"-diff_base={base}", path).stdout)
    assert not [row for row in rows if row[:2] != ("0", "0")], rows
    assert focused_value(go_pprof, path, f"-diff_base={base}") == 0


def check_31_labels(profile, go_pprof, path):
    """Focusing on a thread by number or name shows exactly its samples; tagroot shows the names."""
    by_id, by_name = {}, {}
    for sample in profile.samples:
        assert isinstance(sample.labels["pid"], int) and isinstance(sample.labels["thread_id"], int)
        assert sample.labels["comm"] and sample.labels["thread_name"]
        for label, out in (("thread_id", by_id), ("thread_name", by_name)):
            out[sample.labels[label]] = out.get(sample.labels[label], 0) + sample.values["cpu"]
    for tid, value in by_id.items():
        assert focused_value(go_pprof, path, f"-tagfocus=thread_id={tid}") == value, tid
    for name, value in by_name.items():
        assert focused_value(go_pprof, path, f"-tagfocus=thread_name=^{re.escape(name)}$") == value, name
    rows = top_rows(go_pprof("-top", "-cum", "-tagroot=thread_name", "-nodefraction=0", path).stdout)
    shown = {name for _, _, name in rows}
    assert set(by_name) <= shown, shown


def check_32_comments(profile, go_pprof, path, *words):
    """Version, command and losses are comments that every report shows."""
    text = "\n".join(profile.comments)
    shown = go_pprof("-top", path).stdout
    for comment in profile.comments:
        assert not comment.startswith("#"), comment
        assert comment in shown.splitlines(), f"{comment!r} is not in the header"
    for word in words:
        assert word in text, f"{word!r} is not in the comments:\n{text}"


def check_structure(profile, packed):
    """All rules that need nothing but the file."""
    check_01_one_gzip_member(packed)
    check_02_string_table(profile)
    check_03_valid_utf8(profile.raw)
    check_04_dense_ids(profile)
    check_05_sample_values(profile)
    check_06_nothing_twice_or_unused(profile)
    check_07_known_fields_once(profile)
    check_08_encoding_is_stable(profile, packed)
    check_12_addresses_lie_in_mappings(profile)
    check_14_has_functions(profile)
    check_24_every_location_has_a_line(profile)
    check_25_reasons_are_roots(profile)
