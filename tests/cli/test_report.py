"""`cprofiler report`: the same bytes as `go tool pprof -top`, for our files and for other programs' files.

The Time line is compared only with a Go that prints it as we do (1.20 and newer).
"""
import gzip
import os
import random
import re
import subprocess

import pytest

from harness.paths import find_go
from harness.pprof import proto_module

GO_PROGRAM = """package main

import (
	"os"
	"runtime"
	"runtime/pprof"
	"sort"
	"strings"
	"sync"
	"time"
)

type table[K comparable] struct{ m map[K]int }

func (t *table[K]) add(k K) { t.m[k]++ }

var keep [][]byte
var mu sync.Mutex

func churn(n int) int {
	t := &table[string]{m: map[string]int{}}
	names := []string{}
	for i := 0; i < n; i++ {
		t.add(strings.Repeat("ab", i%97))
		if i%100 == 0 {
			keep = append(keep, make([]byte, 1<<14))
		}
	}
	for k := range t.m {
		names = append(names, k)
	}
	sort.Slice(names, func(i, j int) bool { return names[i] < names[j] })
	return len(strings.Join(names, ","))
}

func write(name string) {
	f, err := os.Create(os.Args[1] + "/" + name + ".pprof")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if name == "cpu" {
		pprof.StartCPUProfile(f)
		var wg sync.WaitGroup
		for i := 0; i < 2; i++ {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for end := time.Now().Add(time.Second); time.Now().Before(end); {
					mu.Lock()
					churn(1000)
					mu.Unlock()
					churn(100)
				}
			}()
		}
		wg.Wait()
		pprof.StopCPUProfile()
		return
	}
	pprof.Lookup(name).WriteTo(f, 0)
}

func main() {
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	for _, name := range []string{"cpu", "heap", "allocs", "block", "mutex", "goroutine", "threadcreate"} {
		write(name)
	}
}
"""

VIEWS = {
    "flat": ([], []),
    "cum": (["-cum"], ["--cum"]),
    "first type": (["-sample_index=0"], ["--type", "0"]),
    "five": (["-nodecount=5"], ["-n", "5"]),
    "five cum": (["-nodecount=5", "-cum"], ["-n5", "--cum"]),
}


def without_time(text):
    return [line for line in text.splitlines() if not line.startswith("Time: ")]


def without_errors(text):
    """The table without what only ours has: the errors of a heap profile's values."""
    if " flat+-  cum+-\n" not in text:
        return text
    text = re.sub(r"^\+-: .*\n", "", text, flags=re.M).replace(" flat+-  cum+-\n", "\n")
    return re.sub(r"^( *\S+ +\S+% +\S+% +\S+ +\S+%) +\S+ +\S+  ", r"\1  ", text, flags=re.M)


def assert_same(cprofiler, go_pprof, path, view):
    """Our table and Go's are the same lines."""
    go_flags, our_flags = VIEWS[view]
    ours = cprofiler("report", *our_flags, path, check=True).stdout.decode()
    theirs = go_pprof("-top", *go_flags, path).stdout
    assert without_time(without_errors(ours)) == without_time(theirs)


@pytest.fixture(scope="module")
def go_profiles(tmp_path_factory):
    """A folder with one profile of each kind that Go's own runtime writes."""
    folder, go = tmp_path_factory.mktemp("go"), find_go()
    if not go:
        pytest.skip("go is not installed")
    (folder / "main.go").write_text(GO_PROGRAM)
    (folder / "go.mod").write_text("module example.com/profiled\n\ngo 1.18\n")
    env = {**os.environ, "GOFLAGS": "", "GOTOOLCHAIN": "local", "GO111MODULE": "on",
           "GOCACHE": os.environ["GOCACHE"]}
    subprocess.run([go, "build", "-o", "profiled", "."], cwd=folder, env=env, check=True, timeout=200)
    subprocess.run([folder / "profiled", folder], check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def own_profile(cprofiler, workload, tmp_path_factory):
    """A CPU profile of ours."""
    path = tmp_path_factory.mktemp("own") / "cpu.pprof"
    cprofiler("record", "-q", "-o", path, "-F", "999", "-d", "1", "--", workload("throwcatch"))
    return path


@pytest.mark.parametrize("view", VIEWS)
def test_table_of_our_profile_is_that_of_go_pprof(cprofiler, go_pprof, own_profile, view):
    assert_same(cprofiler, go_pprof, own_profile, view)


@pytest.fixture(scope="module")
def event_profiles(cprofiler, workload, tmp_path_factory):
    """Profiles of ours by events that are not time."""
    folder = tmp_path_factory.mktemp("events")
    for name, events in (("faults", "page-faults"), ("several", "context-switches,cpu-clock,page-faults")):
        cprofiler("record", "-q", "-o", folder / f"{name}.pprof", "-e", events, "--",
                  workload("counted"), "pages", 5000, check=True)
    return folder


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["faults", "several"])
def test_table_of_our_events_is_that_of_go_pprof(cprofiler, go_pprof, event_profiles, name, view):
    assert_same(cprofiler, go_pprof, event_profiles / f"{name}.pprof", view)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["cpu", "heap", "allocs", "block", "mutex", "goroutine", "threadcreate"])
def test_table_of_go_profile_is_that_of_go_pprof(cprofiler, go_pprof, go_profiles, kind, view):
    assert_same(cprofiler, go_pprof, go_profiles / f"{kind}.pprof", view)


class RandomProfile:
    """A valid profile of odd shape: what Go, node and Rust write, and what nobody wrote yet."""

    NAMES = ["main", "run", "a::b<int>(char)", "std::vector<std::pair<int, x> >::push_back", "f(int)",
             "main.(*T[...]).M", "pkg.F[...]", "<anonymous>", "a.<init>", "(anonymous)", "x", "é", "",
             "operator()", "bad)paren::(", "ns::f(int) const", "long name with spaces"]
    FILES = ["", "/usr/bin/app", "/usr/lib/libx.so.1", "[kernel.kallsyms]", "relative", "/", "//a//"]
    UNITS = [("samples", "count"), ("cpu", "nanoseconds"), ("wall", "microseconds"), ("space", "bytes"),
             ("inuse_space", "kilobytes"), ("x", "GCU"), ("cycles", "cycles"), ("time", "ms"), ("", "")]

    def __init__(self, seed):
        self.pick = random.Random(seed)
        self.profile = proto_module().Profile()
        self.strings = {"": 0}
        self.fill()

    def string(self, text):
        return self.strings.setdefault(text, len(self.strings))

    def rows(self, row_type, number):
        """Adds rows with ids that are neither dense nor sorted."""
        ids = self.pick.sample(range(1, 10 ** 6), number)
        return [row_type.add(id=i) for i in ids]

    def fill(self):
        pick, profile, string = self.pick, self.profile, self.string
        for name, unit in pick.sample(self.UNITS, pick.randint(1, 4)):
            profile.sample_type.add(type=string(name), unit=string(unit))
        if pick.random() < 0.3:
            profile.default_sample_type = pick.choice(profile.sample_type).type
        mappings = self.rows(profile.mapping, pick.randint(0, 4))
        for mapping in mappings:  # Go 1.19 merges mappings of equal size, offset and build ID
            mapping.file_offset = mapping.id << 12
            mapping.filename = string(pick.choice(self.FILES))
            mapping.build_id = string(pick.choice(["", "abcdef"]))
            mapping.has_functions = True
        functions = self.rows(profile.function, pick.randint(1, 25))
        for function in functions:
            name = pick.choice(self.NAMES) + pick.choice(["", "1", "2"])
            function.name = string(pick.choice([name, name, ""]))
            function.system_name = string(pick.choice([name, "_sym", ""]))
            # Nameless functions of one file are rows of equal text, which Go sorts by chance.
            function.start_line = pick.randint(0, 2) if function.name or function.system_name else 0
        locations = self.rows(profile.location, pick.randint(1, 40))
        for location in locations:
            location.mapping_id = pick.choice([m.id for m in mappings] + [0])
            location.address = pick.choice([0, pick.randrange(2 ** 40)])
            for _ in range(pick.choice([0, 1, 1, 1, 2, 3])):
                location.line.add(function_id=pick.choice(functions).id, line=pick.randint(0, 3))
        for _ in range(pick.randint(0, 120)):
            self.add_sample(locations)
        profile.time_nanos = pick.choice([0, 1700000000123456789])
        profile.duration_nanos = pick.choice([0, 1, 1500000000, 7200 * 10 ** 9])
        profile.comment.extend(string(c) for c in pick.sample(["one", "#two", "three"], pick.randint(0, 3)))
        profile.string_table.extend(self.strings)

    def add_sample(self, locations):
        pick, sample = self.pick, self.profile.sample.add()
        sample.location_id.extend(pick.choice(locations).id for _ in range(pick.randint(0, 12)))
        sample.value.extend(pick.choice([0, 1, pick.randrange(10 ** pick.randint(1, 11))])
                            for _ in self.profile.sample_type)
        if pick.random() < 0.3:
            sample.label.add(key=self.string("k"), str=self.string(pick.choice(["v", "w"])))
        if pick.random() < 0.3:
            sample.label.add(key=self.string("n"), num=pick.randint(0, 2))

    def write(self, path):
        data = self.profile.SerializeToString()
        path.write_bytes(data if self.pick.random() < 0.5 else gzip.compress(data))
        return path


@pytest.mark.parametrize("seed", range(30))
def test_table_of_odd_profile_is_that_of_go_pprof(cprofiler, go_pprof, tmp_path, seed):
    path = RandomProfile(seed).write(tmp_path / "odd.pprof")
    for view in ("flat", list(VIEWS)[1 + seed % 4]):
        assert_same(cprofiler, go_pprof, path, view)


def test_names_of_the_linker_are_made_readable(cprofiler, go_pprof, tmp_path):
    """Rust (both manglings), C++, clones: files of other tools may have nothing else."""
    odd = RandomProfile(1)
    names = {"_ZN2ns4leafEi": "ns::leaf", "_ZNK2ns5Thing3getEv": "ns::Thing::get", "_ZN2nsclEv": "ns::operator()",
             "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE": "core::fmt::Write::write_fmt",
             "_RNvC6_123foo3bar": "123foo::bar", "_Znot_mangled": "_Znot_mangled", "_start": "_start"}
    for number, name in enumerate(names):
        odd.profile.function.add(id=10 ** 7 + number, name=odd.string(name), system_name=odd.string(name))
        odd.profile.location.add(id=10 ** 7 + number).line.add(function_id=10 ** 7 + number)
        odd.profile.sample.add(location_id=[10 ** 7 + number], value=[10 ** 15] * len(odd.profile.sample_type))
    del odd.profile.string_table[:]
    odd.profile.string_table.extend(odd.strings)
    path = odd.write(tmp_path / "mangled.pprof")
    assert_same(cprofiler, go_pprof, path, "flat")
    shown = cprofiler("report", path, check=True).stdout.decode()
    assert all(f"%  {name}\n" in shown for name in names.values()), shown
