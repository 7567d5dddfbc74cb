"""`record --no-symbolize` and `symbolize`: names that come later, from files that may lie elsewhere."""
import gzip
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import pprof_checks as checks
from harness import elf, recording
from harness.messages import assert_refused
from harness.pprof import KERNEL, Profile, go_pprof, proto_module

# Work that inlines, in a program and in a library; the program's own name is its build.
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
unsigned library_work(unsigned x);
static inline __attribute__((always_inline)) unsigned mix(unsigned x)
{
    for (int i = 0; i < 50; i++)
        x = (x * 1664525u + 1013904223u) ^ x >> 3;
    return x;
}
__attribute__((noinline)) unsigned BUILD_NAME(unsigned x)
{
    return mix(x) + mix(x + 1);
}
int main(int argc, char **argv)
{
    unsigned sum = 0;
    for (long i = 0; i < atol(argv[argc - 1]); i++)
        sum += BUILD_NAME(sum) + library_work(sum);
    printf("%u\\n", sum);
    return 0;
}
"""
LIBRARY = """
static inline __attribute__((always_inline)) unsigned twist(unsigned x)
{
    for (int i = 0; i < 40; i++)
        x = (x * 22695477u + 1u) ^ x >> 5;
    return x;
}
unsigned library_work(unsigned x) { return twist(x); }
"""
ROUNDS = "2500000"


def build(folder, name="first_build", flags=("-g", "-O2"), link=("-Wl,--build-id",)):
    """Compiles program and library into a folder. Returns the program's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.c").write_text(PROGRAM.replace("BUILD_NAME", name), encoding="ascii")
    (folder / "lib.c").write_text(LIBRARY, encoding="ascii")
    subprocess.run(["gcc", *flags, *link, "-fPIC", "-shared", "-o", folder / "libwork.so", folder / "lib.c"],
                   check=True, timeout=60)
    subprocess.run(["gcc", *flags, *link, "-o", folder / "app", folder / "app.c", "-L", folder, "-lwork",
                    "-Wl,-rpath,$ORIGIN"], check=True, timeout=60)
    return folder / "app"


@pytest.fixture(scope="module")
def unnamed(cprofiler, tmp_path_factory):
    """A recording without names of a program whose files then went elsewhere; .kept is where."""
    folder = tmp_path_factory.mktemp("unnamed")
    app = build(folder / "bin")
    made = recording.record(cprofiler, folder, [app, ROUNDS], hz=999, flags=["--no-symbolize"])
    made.kept = folder / "kept"
    (folder / "bin").rename(made.kept)
    for name in ("app.c", "lib.c"):  # a folder with nothing but binaries
        (made.kept / name).unlink()
    made.app, made.library = str(app), str(app.parent / "libwork.so")
    return made


def symbolize(program, *args, status=0):
    """Runs `cprofiler symbolize ARGS`; what it says on stderr."""
    done = program("symbolize", *args)
    assert done.returncode == status, done.stderr
    assert done.stdout == b""
    return done.stderr.decode()


def lines_of(profile, path):
    """{address: [(function, file, line)] innermost first} of the locations in a file's mapping."""
    strings, functions = profile.strings, profile.functions
    return {x.address: [(strings[functions[y.function_id].name], strings[functions[y.function_id].filename], y.line)
                        for y in x.line]
            for x in profile.proto.location if profile.mapping_file(x.mapping_id) == path}


def elf_address(profile, location, binary):
    """The linked address of a location, by the program header that its mapping is of."""
    mapping = profile.mappings[location.mapping_id]
    text = subprocess.run(["readelf", "-lW", binary], check=True, stdout=subprocess.PIPE, timeout=60,
                          text=True).stdout
    for offset, virtual, size in re.findall(r"LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+) 0x\w+ [RW ]*E", text):
        offset, virtual, size = int(offset, 16), int(virtual, 16), int(size, 16)
        at = location.address - mapping.memory_start + mapping.file_offset
        if offset <= at < offset + size:
            return at - offset + virtual
    raise AssertionError(f"{location.address:#x} is in no segment of {binary}")


def addr2line(binary, address):
    """[(function, file, line)] as binutils sees them."""
    done = subprocess.run(["addr2line", "-f", "-i", "-e", binary, hex(address)], check=True, text=True, timeout=60,
                          stdout=subprocess.PIPE).stdout.splitlines()
    out = []
    for function, place in zip(done[::2], done[1::2]):
        file, line = place.split(" (discriminator")[0].rsplit(":", 1)
        out.append((function, file, int(line) if line.isdigit() else 0))
    return out


# --- record --no-symbolize ---------------------------------------------------------------------


def test_recording_without_names_has_addresses_and_build_ids(unnamed):
    profile = unnamed.profile
    files = {m.id: m for m in profile.proto.mapping if profile.mapping_file(m.id).startswith("/")}
    for mapping in files.values():
        assert not (mapping.has_functions or mapping.has_filenames or mapping.has_line_numbers or
                    mapping.has_inline_frames)
        assert re.fullmatch("[0-9a-f]{40}", profile.strings[mapping.build_id])
    places = [x for x in profile.proto.location if x.mapping_id in files]
    assert places and not any(x.line for x in places)
    assert profile.strings[profile.proto.mapping[0].build_id] == elf.build_id(unnamed.kept / "app")


def test_recording_without_names_names_what_only_this_machine_knows(unnamed):
    profile = unnamed.profile
    for location in profile.proto.location:
        if not profile.mapping_file(location.mapping_id).startswith("/"):
            assert location.line, hex(location.address)
            assert location.mapping_id == 0 or profile.mappings[location.mapping_id].has_functions


def test_summary_tells_what_to_type(unnamed, cprofiler, tmp_path):
    assert unnamed.summary["not_symbolized"] > 0
    done = cprofiler("record", "--no-symbolize", "-F", "999", "-o", tmp_path / "cpu.pprof", "--",
                     "sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
    assert done.returncode == 0
    assert f"not symbolized: cprofiler symbolize {tmp_path}/cpu.pprof\n" in done.stderr.decode()


def test_report_shows_files_and_says_how_they_get_names(unnamed, cprofiler, tmp_path):
    done = cprofiler("report", unnamed.file)
    assert done.returncode == 0 and b"[app]" in done.stdout
    assert re.search(rf"\d+ of \d+ places have no name: cprofiler symbolize {unnamed.file}\n", done.stderr.decode())
    symbolize(cprofiler, "--debug-dir", unnamed.kept, "-o", tmp_path / "named", unnamed.file)
    done = cprofiler("report", tmp_path / "named")
    assert done.stderr == b"" and b"first_build" in done.stdout


def test_structure_rules_hold_without_names(unnamed):
    packed, profile = unnamed.file.read_bytes(), unnamed.profile
    checks.check_01_one_gzip_member(packed)
    for rule in (checks.check_02_string_table, checks.check_04_dense_ids, checks.check_05_sample_values,
                 checks.check_06_nothing_twice_or_unused, checks.check_07_known_fields_once,
                 checks.check_12_addresses_lie_in_mappings, checks.check_25_reasons_are_roots):
        rule(profile)
    checks.check_03_valid_utf8(profile.raw)
    checks.check_08_encoding_is_stable(profile, packed)


def test_file_without_build_id_is_named_at_once(cprofiler, tmp_path):
    app = build(tmp_path / "bin", link=("-Wl,--build-id=none",))
    made = recording.record(cprofiler, tmp_path, [app, ROUNDS], hz=499, flags=["--no-symbolize"])
    assert {"mix", "first_build"} <= set(made.profile.cum())
    assert made.profile.proto.mapping[0].has_functions


def test_deleted_program_is_named_at_once(cprofiler, tmp_path):
    app = build(tmp_path / "bin")
    made = recording.record(cprofiler, tmp_path, ["sh", "-c", f"{app} {ROUNDS}; rm {app}"], hz=499, flags=["--no-symbolize"])
    assert {"mix", "first_build"} <= set(made.profile.cum())
    assert not any(x.line for x in made.profile.proto.location
                   if made.profile.mapping_file(x.mapping_id) == str(app.parent / "libwork.so"))


# --- symbolize ---------------------------------------------------------------------------------


def test_names_are_those_of_addr2line(cprofiler, unnamed, tmp_path):
    said = symbolize(cprofiler, "--debug-dir", unnamed.kept, "-o", tmp_path / "named.pprof", unnamed.file)
    assert "named " in said and f"wrote {tmp_path}/named.pprof" in said
    profile = Profile(tmp_path / "named.pprof")
    compared = 0
    for path in (unnamed.app, unnamed.library):
        binary = unnamed.kept / Path(path).name
        for location in profile.proto.location:
            if profile.mapping_file(location.mapping_id) != path:
                continue
            ours = lines_of(profile, path)[location.address]
            theirs = addr2line(binary, elf_address(profile, location, binary))
            if theirs[0][1] != "??":
                assert ours == theirs, hex(location.address)
                compared += 1
    assert compared >= 5
    assert {"mix", "first_build", "twist", "library_work", "main"} <= set(profile.cum())


def test_all_but_names_stays_as_it_was(cprofiler, unnamed, tmp_path):
    symbolize(cprofiler, "--debug-dir", unnamed.kept, "-o", tmp_path / "named.pprof", unnamed.file)
    before, after = unnamed.profile.proto, Profile(tmp_path / "named.pprof").proto
    assert list(after.string_table)[:len(before.string_table)] == list(before.string_table)
    stripped = type(after)()
    stripped.CopyFrom(after)
    del stripped.string_table[len(before.string_table):]
    del stripped.function[len(before.function):]
    for ours, theirs in zip(stripped.location, before.location):
        if not theirs.line:
            del ours.line[:]
    for ours, theirs in zip(stripped.mapping, before.mapping):
        ours.has_functions, ours.has_filenames = theirs.has_functions, theirs.has_filenames
        ours.has_line_numbers, ours.has_inline_frames = theirs.has_line_numbers, theirs.has_inline_frames
    assert stripped.SerializeToString() == before.SerializeToString()


def test_result_keeps_all_rules_and_go_pprof_shows_it(cprofiler, unnamed, tmp_path):
    named = tmp_path / "named.pprof"
    symbolize(cprofiler, "--debug-dir", unnamed.kept, "-o", named, unnamed.file)
    checks.check_structure(Profile(named), named.read_bytes())
    checks.check_01_go_pprof_is_silent(go_pprof, named)
    shown = go_pprof("-top", named).stdout
    assert "first_build" in shown and "library_work" in shown
    source = unnamed.profile  # the same samples, seen by another eye
    assert Profile(named).total() == source.total()
    raw = go_pprof("-raw", named).stdout
    assert re.search(r"M=1 mix \S+/app\.c:\d+:\d+ s=\d+|M=1 mix \S+/app\.c:\d+ s=\d+", raw), raw[-3000:]


def test_default_is_in_place_and_twice_is_once(cprofiler, unnamed, tmp_path):
    file = tmp_path / "cpu.pprof"
    shutil.copy(unnamed.file, file)
    file.chmod(0o640)
    symbolize(cprofiler, "--debug-dir", unnamed.kept, file)
    first = file.read_bytes()
    assert "mix" in Profile(file).cum() and file.stat().st_mode & 0o777 == 0o640
    said = symbolize(cprofiler, "--debug-dir", unnamed.kept, file)
    assert re.search("every frame has its name already|nothing more to name", said), said
    assert file.read_bytes() == first
    assert os.listdir(tmp_path) == ["cpu.pprof"]


def test_force_looks_up_again_and_loses_nothing(cprofiler, unnamed, tmp_path):
    plain, full, kept = tmp_path / "plain", tmp_path / "full", tmp_path / "kept"
    symbolize(cprofiler, "--no-inlines", "--debug-dir", unnamed.kept, "-o", plain, unnamed.file)
    symbolize(cprofiler, "--force", "--debug-dir", unnamed.kept, "-o", full, plain)
    symbolize(cprofiler, "--force", "-o", kept, full)  # the program is not to be found
    assert "mix" not in Profile(plain).cum() and "first_build" in Profile(plain).cum()
    assert not any(y.line for x in Profile(plain).proto.location for y in x.line)
    assert "mix" in Profile(full).cum()
    assert lines_of(Profile(kept), unnamed.app) == lines_of(Profile(full), unnamed.app)


def flat(kept, to):
    for name in ("app", "libwork.so"):
        shutil.copy(kept / name, to / f"{name}-of-some-name")


def root_copy(kept, to):
    target = to / str(kept.parent / "bin").lstrip("/")
    target.mkdir(parents=True)
    shutil.copy(kept / "app", target)
    shutil.copy(kept / "libwork.so", target)


def build_id_tree(kept, to):
    for name in ("app", "libwork.so"):
        build_id = elf.build_id(kept / name)
        (to / ".build-id" / build_id[:2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(kept / name, to / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug")


def debug_files_only(kept, to):
    for name in ("app", "libwork.so"):
        subprocess.run(["objcopy", "--only-keep-debug", kept / name, to / f"{name}.dbg"], check=True, timeout=60)


def stripped_and_debug_files(kept, to):
    debug_files_only(kept, to)
    for name in ("app", "libwork.so"):
        subprocess.run(["strip", "-o", to / name, kept / name], check=True, timeout=60)


def cache_of_debuginfod(kept, to):
    for name in ("app", "libwork.so"):
        (to / elf.build_id(kept / name)).mkdir()
        shutil.copy(kept / name, to / elf.build_id(kept / name) / "executable")


@pytest.mark.parametrize("layout", [flat, root_copy, build_id_tree, debug_files_only, stripped_and_debug_files,
                                    cache_of_debuginfod])
def test_files_are_found_by_build_id(cprofiler, unnamed, tmp_path, layout):
    want, got, folder = tmp_path / "want", tmp_path / "got", tmp_path / "dir"
    folder.mkdir()
    layout(unnamed.kept, folder)
    symbolize(cprofiler, "--debug-dir", unnamed.kept, "-o", want, unnamed.file)
    symbolize(cprofiler, "--debug-dir", f"/usr/lib:{folder}", "-o", got, unnamed.file)
    for path in (unnamed.app, unnamed.library):
        ours, theirs = lines_of(Profile(got), path), lines_of(Profile(want), path)
        if layout is debug_files_only:  # PLT entries are not in a debug file
            ours = {x: y for x, y in ours.items() if "@plt" not in theirs[x][0][0]}
            theirs = {x: y for x, y in theirs.items() if x in ours}
        assert ours == theirs and len(ours) > 1


GO_PROGRAM = """
package main

import "os"

func mix(x uint32) uint32 {
	for i := 0; i < 50; i++ {
		x = (x*1664525 + 1013904223) ^ x>>3
	}
	return x
}

//go:noinline
func goWork(x uint32) uint32 { return mix(x) + mix(x+1) }

func main() {
	sum := uint32(len(os.Args))
	for i := 0; i < 3000000; i++ {
		sum += goWork(sum)
	}
	println(sum)
}
"""


def build_go(folder, *link):
    """A Go program without a GNU build-id; newer Go must be told so, older knows no other."""
    folder.mkdir()
    (folder / "main.go").write_text(GO_PROGRAM, encoding="ascii")
    (folder / "go.mod").write_text("module example.org/app\n\ngo 1.19\n", encoding="ascii")
    for flags in (["-B=none"], []):
        done = subprocess.run(["go", "build", "-ldflags", " ".join(["-s", "-w", *link, *flags]), "-o", "app"],
                              cwd=folder, check=False, timeout=250, stderr=subprocess.PIPE,
                              env={**os.environ, "GOFLAGS": "-mod=mod"})
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    assert not elf.build_id(folder / "app")
    return folder / "app"


def test_go_program_is_found_by_its_own_build_id(cprofiler, tmp_path):
    app = build_go(tmp_path / "bin")
    build_id = subprocess.run(["go", "tool", "buildid", app], check=True, timeout=60, stdout=subprocess.PIPE,
                              text=True).stdout.strip()
    made = recording.record(cprofiler, tmp_path, [app], hz=499, flags=["--no-symbolize"])
    assert made.profile.strings[made.profile.proto.mapping[0].build_id] == build_id
    assert not any(x.line for x in made.profile.proto.location if x.mapping_id == 1)
    kept = tmp_path / "kept"
    kept.mkdir()
    app.rename(kept / "another-name")
    app.with_name("main.go").write_text(GO_PROGRAM.replace("goWork", "otherWork"), encoding="ascii")
    subprocess.run(["go", "build", "-o", "app"], cwd=app.parent, check=True, timeout=250)
    assert "another build lies there" in symbolize(cprofiler, made.file, status=1)
    named = tmp_path / "named.pprof"
    symbolize(cprofiler, "--debug-dir", kept, "-o", named, made.file)
    shown = go_pprof("-top", named)
    assert "main.goWork" in shown.stdout and "main.mix" in shown.stdout and shown.stderr == ""
    # So another tool writes it.
    message = proto_module().Profile.FromString(gzip.decompress(made.file.read_bytes()))
    message.string_table[message.mapping[0].build_id] = build_id.encode().hex()
    (tmp_path / "hex").write_bytes(message.SerializeToString())
    symbolize(cprofiler, "--debug-dir", kept, tmp_path / "hex")
    assert Profile(tmp_path / "hex").cum() == Profile(named).cum()


def test_go_build_id_that_tells_nothing_apart_is_none(cprofiler, tmp_path):
    app = build_go(tmp_path / "bin", "-buildid=redacted")
    made = recording.record(cprofiler, tmp_path, [app], hz=499, flags=["--no-symbolize"])
    assert made.profile.strings[made.profile.proto.mapping[0].build_id] == ""
    assert "main.goWork" in made.profile.cum()


def test_another_build_is_not_used_and_told(cprofiler, unnamed, tmp_path):
    build(tmp_path / "other", name="second_build")
    target = Path(unnamed.app).parent
    shutil.copytree(tmp_path / "other", target)
    try:
        said = symbolize(cprofiler, "-o", tmp_path / "got", unnamed.file)
        assert f"{unnamed.app} (build-id {elf.build_id(unnamed.kept / 'app')}): another build lies there" in said
        profile = Profile(tmp_path / "got")
        assert "second_build" not in profile.cum()
        assert not any(lines_of(profile, unnamed.app).values())
        assert not profile.proto.mapping[0].has_functions
    finally:
        shutil.rmtree(target)


def test_nothing_found_leaves_the_file_and_fails(cprofiler, unnamed, tmp_path):
    message = proto_module().Profile.FromString(gzip.decompress(unnamed.file.read_bytes()))
    for mapping in message.mapping:
        if message.string_table[mapping.filename].startswith("/"):
            message.string_table[mapping.filename] = "/nowhere" + message.string_table[mapping.filename]
    file = tmp_path / "cpu.pprof"
    file.write_bytes(message.SerializeToString())
    before = file.read_bytes()
    # Debian's debug files may be installed: another build-id than any.
    for mapping in message.mapping:
        message.string_table[mapping.build_id] = "0123456789" * 4 if mapping.build_id else ""
    file.write_bytes(message.SerializeToString())
    before = file.read_bytes()
    done = cprofiler("symbolize", file)
    assert done.returncode == 1 and file.read_bytes() == before
    assert b"could be named" in done.stderr and b"hint: " in done.stderr and b"--debug-dir" in done.stderr


def test_file_of_several_processes_is_looked_into_once(cprofiler, tmp_path):
    app = build(tmp_path / "bin")
    made = recording.record(cprofiler, tmp_path, ["sh", "-c", f"{app} {ROUNDS} & {app} {ROUNDS} & {app} {ROUNDS}; wait"],
                            hz=499, flags=["-v"])
    assert len({s.labels["pid"] for s in made.profile.samples if s.labels["comm"] == "app"}) == 3
    for file in (app, app.parent / "libwork.so"):
        assert made.stderr.decode().count(f"{file}: 1 units with code") == 1, made.stderr
        assert [made.profile.mapping_file(m.id) for m in made.profile.proto.mapping].count(str(file)) == 1


def test_kernel_frames_keep_their_names(cprofiler, unnamed, tmp_path):
    symbolize(cprofiler, "--debug-dir", unnamed.kept, "-o", tmp_path / "got", unnamed.file)

    def kernel(profile):
        return {x.address: [y.function_id for y in x.line] for x in profile.proto.location
                if profile.mapping_file(x.mapping_id).startswith(KERNEL)}
    assert kernel(Profile(tmp_path / "got")) == kernel(unnamed.profile)


def foreign_profile(app, **mapping):
    """A profile as other tools write them: odd ids, fields of tomorrow, twelve values, unpacked numbers."""
    message = proto_module().Profile()
    strings = [""]

    def string(text):
        strings.append(text)
        return len(strings) - 1
    for number in range(12):
        message.sample_type.add(type=string(f"type_{number}"), unit=string("count"))
    message.mapping.add(id=77, memory_start=0x10000, memory_limit=0x20000, filename=string(str(app)),
                        build_id=string(mapping.get("build_id", elf.build_id(app))))
    symbols = subprocess.run(["readelf", "-lW", app], check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    offset, virtual, size = (int(x, 16) for x in
                             re.search(r"LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+) 0x\w+ R E", symbols).groups())
    message.mapping[0].file_offset = offset
    nm = subprocess.run(["nm", app], check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    place = int(re.search(r"^(\w+) T first_build$", nm, re.M).group(1), 16)
    assert virtual <= place < virtual + size
    message.location.add(id=5, mapping_id=77, address=0x10000 + place - virtual, is_folded=True)
    message.function.add(id=2 ** 63, name=string("known"))
    message.location.add(id=6, address=4711).line.add(function_id=2 ** 63, line=3, column=9)
    message.sample.add(location_id=[5, 6], value=range(12)).label.add(key=string("k"), num=7, num_unit=string("u"))
    message.drop_frames, message.doc_url = string("drop"), string("https://example.org")
    message.comment.append(string("said"))
    message.string_table.extend(strings)
    return message


def test_go_pprof_takes_such_a_mapping_for_one_to_be_named(cprofiler, unnamed, tmp_path):
    # One place alone: go's own names for all of libc take minutes where its debug file is installed.
    message = foreign_profile(unnamed.kept / "app")
    mapping = unnamed.profile.proto.mapping[0]
    assert [f.number for f, _ in mapping.ListFields()] == [f.number for f, _ in message.mapping[0].ListFields()]
    (tmp_path / "foreign").write_bytes(message.SerializeToString())
    assert "first_build" in go_pprof("-top", tmp_path / "foreign").stdout
    symbolize(cprofiler, tmp_path / "foreign")
    assert "first_build" in go_pprof("-top", tmp_path / "foreign").stdout


def test_foreign_profile_is_completed_and_all_else_kept(cprofiler, unnamed, tmp_path):
    message = foreign_profile(unnamed.kept / "app")
    raw = message.SerializeToString() + b"\xfa\x01\x05later"  # field 31, unknown to everybody
    (tmp_path / "foreign").write_bytes(raw)
    symbolize(cprofiler, tmp_path / "foreign")
    after = Profile(tmp_path / "foreign").proto
    assert [f.id for f in after.function] == [2 ** 63] + list(range(1, len(after.function)))
    names = [after.string_table[{f.id: f for f in after.function}[x.function_id].name] for x in after.location[0].line]
    assert names[-1] == "first_build" and after.location[0].is_folded
    assert gzip.decompress((tmp_path / "foreign").read_bytes()).endswith(b"\xfa\x01\x05later")
    assert after.location[1] == message.location[1] and after.sample[0] == message.sample[0]
    assert (after.drop_frames, after.doc_url, after.comment) == (message.drop_frames, message.doc_url,
                                                                message.comment)


def test_profile_without_build_ids_needs_unverified(cprofiler, unnamed, tmp_path):
    (tmp_path / "foreign").write_bytes(foreign_profile(unnamed.kept / "app", build_id="").SerializeToString())
    done = cprofiler("symbolize", tmp_path / "foreign")
    assert done.returncode == 1 and b"--unverified" in done.stderr
    symbolize(cprofiler, "--unverified", tmp_path / "foreign")
    assert "first_build" in Profile(tmp_path / "foreign").cum("type_1")


def test_build_id_in_capitals_or_padded_is_the_same(cprofiler, unnamed, tmp_path):
    short = build(tmp_path / "short", link=("-Wl,--build-id=md5",))
    for app, build_id in ((unnamed.kept / "app", elf.build_id(unnamed.kept / "app").upper()),
                          (short, elf.build_id(short) + "00000000")):
        (tmp_path / "foreign").write_bytes(foreign_profile(app, build_id=build_id).SerializeToString())
        symbolize(cprofiler, tmp_path / "foreign")
        assert "first_build" in Profile(tmp_path / "foreign").cum("type_1")


def test_hostile_profile_ends_and_is_told_briefly(cprofiler, tmp_path):
    message = proto_module().Profile()
    message.sample_type.add(type=1, unit=1)
    strings = ["", "cpu", "/" + "A" * 900000, "ab" * 400000, "/usr/bin/env", "0123456789" * 4]
    message.mapping.add(id=1, memory_start=1, memory_limit=2 ** 62, filename=2, build_id=3)
    message.mapping.add(id=2 ** 64 - 1, memory_start=2 ** 64 - 1, memory_limit=5, file_offset=2 ** 64 - 1, filename=4,
                        build_id=5)
    for number in range(20000):
        strings += [f"/dev/fd/{number}", f"{number * 0x10001:040x}"]
        message.mapping.add(id=number + 2, memory_start=number, memory_limit=2 ** 64 - 1 - number,
                            filename=len(strings) - 2, build_id=len(strings) - 1)
        message.location.add(id=number + 1, mapping_id=(1, 2 ** 64 - 1, number + 2)[number % 3],
                             address=2 ** 64 - 1 - number)
        message.sample.add(location_id=[number + 1], value=[-2 ** 63])
    message.string_table.extend(strings)
    (tmp_path / "hostile").write_bytes(message.SerializeToString())
    done = cprofiler("symbolize", "--debug-dir", tmp_path, "-o", tmp_path / "out", tmp_path / "hostile")
    assert done.returncode == 1 and len(done.stderr) < 10000, done.stderr[:2000]
    assert b"files more" in done.stderr and not (tmp_path / "out").exists()


def test_json_tells_the_same(cprofiler, unnamed, tmp_path):
    summary = tmp_path / "summary.json"
    assert symbolize(cprofiler, "--debug-dir", unnamed.kept, "-o", tmp_path / "named", f"--json={summary}",
                     unnamed.file) == ""
    told = json.loads(summary.read_text(encoding="utf-8"))
    places = [x for x in unnamed.profile.proto.location if not x.line]
    assert told["named"] == len(places) and told["not_symbolized"] == 0 and told["named_share"] == 1
    assert told["mappings"]["wanted"] == told["mappings"]["found"] >= 2 and told["missing"] == []
    assert told["files"] == [{"kind": "profile", "path": str(tmp_path / "named"),
                              "bytes": (tmp_path / "named").stat().st_size}]
    assert {"version", "loss", "cost"} <= set(told)
    # Two of the files are not there, those of Debian are.
    told = json.loads(symbolize(cprofiler, "--json", "-o", tmp_path / "some", unnamed.file))
    missing = {x["mapping"]: x for x in told["missing"]}
    assert missing[unnamed.app] == {"mapping": unnamed.app, "reason": "not found",
                                    "build_id": elf.build_id(unnamed.kept / "app")}
    assert unnamed.library in missing and 0 < told["not_symbolized"] < len(places) and told["named_share"] < 1
    assert told["worst"]["mapping"] in missing
    # Nothing left to do; nothing found.
    told = json.loads(symbolize(cprofiler, "--json", tmp_path / "named"))
    assert told["named"] == 0 and told["files"] == [] and told["named_share"] == 1
    (tmp_path / "foreign").write_bytes(foreign_profile(unnamed.kept / "app", build_id="ab" * 20).SerializeToString())
    symbolize(cprofiler, f"--json={summary}", tmp_path / "foreign", status=1)
    told = json.loads(summary.read_text(encoding="utf-8"))
    assert told["missing"][0]["reason"] == "another build lies there" and told["files"] == []


# --- manners -----------------------------------------------------------------------------------


def test_wrong_words_are_told(cprofiler, unnamed, tmp_path):
    assert_refused(cprofiler("symbolize"), "no file given", status=2)
    assert_refused(cprofiler("symbolize", "a", "b"), "more than one file", status=2)
    assert_refused(cprofiler("symbolize", "--debug-dir", tmp_path / "no", unnamed.file), "is no directory")
    assert_refused(cprofiler("symbolize", tmp_path / "no.pprof"), "no.pprof", "No such file")
    os.mkfifo(tmp_path / "fifo")
    assert_refused(cprofiler("symbolize", tmp_path / "fifo"), "no regular file", status=2)


def test_broken_profile_is_told_and_left(cprofiler, unnamed, tmp_path):
    raw = gzip.decompress(unnamed.file.read_bytes())
    for broken in (b"", b"no profile", raw[:len(raw) // 2], raw + raw):
        (tmp_path / "cpu.pprof").write_bytes(broken)
        done = cprofiler("symbolize", tmp_path / "cpu.pprof")
        assert_refused(done, "cpu.pprof")
        assert (tmp_path / "cpu.pprof").read_bytes() == broken
    assert os.listdir(tmp_path) == ["cpu.pprof"]


def test_output_that_cannot_be_written_is_told_before_the_work(cprofiler, unnamed):
    for option in "-o", "--json":
        assert_refused(cprofiler("symbolize", f"{option}{'=' if option[1] == '-' else ''}/nowhere/x", unnamed.file),
                       "/nowhere")
    done = cprofiler("symbolize", "--debug-dir", unnamed.kept, "-o", "/dev/full", unnamed.file)
    assert done.returncode == 1 and b"/dev/full" in done.stderr


# --- debug info that is not read ---------------------------------------------------------------


def test_debug_info_that_is_too_large_is_told(cprofiler, tmp_path):
    """The names are there, and the summaries say whose files and lines are missing and why."""
    app = build(tmp_path / "bin", flags=["-O2"])
    announced = b"ZLIB" + (10 ** 9).to_bytes(8, "big") + bytes(10 ** 6)
    (tmp_path / "huge").write_bytes(announced)
    for file in (app, app.parent / "libwork.so"):
        # objcopy would unpack what it adds under the real name.
        subprocess.run(["objcopy", "--add-section", f".xdebug_info={tmp_path / 'huge'}", file], check=True, timeout=60)
        file.write_bytes(file.read_bytes().replace(b".xdebug_info", b".zdebug_info"))
    made = recording.record(cprofiler, tmp_path, [app, ROUNDS], hz=999)
    names = {name for found in lines_of(made.profile, str(app)).values() for name, _, _ in found}
    assert "first_build" in names, names
    assert made.summary["loss"]["debug_info_timeout"] >= 2

    told = re.compile(r"^  \d+ places without file, line and inlined functions: their debug info took too long", re.M)
    done = cprofiler("record", "-o", tmp_path / "told.pprof", "--", app, ROUNDS)
    assert done.returncode == 0 and told.search(done.stderr.decode()), done.stderr
    later = recording.record(cprofiler, tmp_path, [app, ROUNDS], hz=999, flags=["--no-symbolize"], name="later")
    said = symbolize(cprofiler, later.file)
    assert told.search(said), said
