"""C unit tests and fuzzers as pytest items.

tests/unit/<folder>/test_x.c -> $O/tests/unit/<folder>/test_x, one item for each cmocka_unit_test(NAME)
in the source. The binary runs once, with TAP=1, and its TAP lines are mapped to the items.
tests/fuzz/fuzz_x.c -> $O/fuzz/fuzz_x, one item: its corpus, then FUZZ_SECONDS (3) of fuzzing.
"""
import os
import re
import subprocess

import pytest

from .paths import ROOT, TESTS, build_dir

UNIT_TIMEOUT_S = 240
NAME = re.compile(r"cmocka_unit_test(?:_\w+)?\s*\(\s*(\w+)")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
TAP_LINE = re.compile(r"^(not ok|ok)\s+\d+\s*(?:-\s*)?(\w+)?(.*)$")
SANITIZER_ENV = {
    "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


class Failure(Exception):
    """A failed item whose text is already all there is to say."""


def sanitizer_environment():
    """Our environment with defaults for the sanitizers, which a caller may override."""
    return {**SANITIZER_ENV, **os.environ}


def parse_tap(text):
    """TAP text -> {test name: (verdict, diagnostic text)}; verdict: ok, not ok, skip.

    Diagnostics follow their test, but for the reason of a skip (tests/unit/skip.h), which the test itself prints.
    """
    results, last, reason = {}, None, ""
    for line in text.splitlines():
        if line.startswith("# skipped: "):
            reason = line.removeprefix("# skipped: ")
            continue
        found = TAP_LINE.match(line)
        if found:
            verdict, name, rest = found.groups()
            if "# SKIP" in line.upper():
                name = re.sub(r".*#\s*SKIP\s*", "", line, flags=re.I).strip() or name
                verdict = "skip"
            if name:
                results[name] = [verdict, reason if verdict == "skip" else ""]
                last, reason = name, ""
        elif last and line.startswith("#"):
            results[last][1] += line[1:].strip() + "\n"
    return results


class UnitFile(pytest.File):
    """One test_*.c."""

    def collect(self):
        source = COMMENT.sub("", self.path.read_text(errors="replace"))
        names = list(dict.fromkeys(NAME.findall(source)))
        if not names:
            yield UnitItem.from_parent(self, name="has_tests")
        for name in names:
            yield UnitItem.from_parent(self, name=name)

    def binary(self):
        return build_dir() / self.path.relative_to(ROOT).with_suffix("")

    def run_once(self):
        """Runs the binary the first time it is asked. Returns (results, exit status, output)."""
        if not hasattr(self, "_outcome"):
            if not self.binary().exists():
                raise Failure(f"{self.binary()} is not built: run `make unit`")
            env = {**sanitizer_environment(), "TAP": "1", "CMOCKA_MESSAGE_OUTPUT": "TAP"}
            env.pop("CMOCKA_XML_FILE", None)
            try:
                done = subprocess.run([str(self.binary())], cwd=ROOT, env=env, timeout=UNIT_TIMEOUT_S,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      stdin=subprocess.DEVNULL, check=False)
                status, output = done.returncode, done.stdout.decode(errors="replace")
            except subprocess.TimeoutExpired as late:
                status = f"no end after {UNIT_TIMEOUT_S} s"
                output = (late.stdout or b"").decode(errors="replace")
            self._outcome = (parse_tap(output), status, output)
        return self._outcome


class UnitItem(pytest.Item):
    """One cmocka test."""

    def runtest(self):
        results, status, output = self.parent.run_once()
        tail = output[-4000:]
        if self.name not in results:
            raise Failure(f"not reported by {self.parent.binary().name} (status {status}):\n{tail}")
        verdict, text = results[self.name]
        if verdict == "skip":
            pytest.skip(f"{self.path.relative_to(TESTS)}: {self.name}: {text.strip() or 'without a reason'}")
        if verdict != "ok":
            raise Failure(text or tail)
        bad_end = status != 0 and all(v == "ok" or v == "skip" for v, _ in results.values())
        if bad_end and self.name == list(results)[-1]:
            raise Failure(f"all tests passed, yet the binary ended with status {status}:\n{tail}")

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, Failure):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, 0, f"{self.path.relative_to(TESTS)}: {self.name}"


class FuzzFile(pytest.File):
    """One fuzz_*.c."""

    def collect(self):
        yield FuzzItem.from_parent(self, name=self.path.stem)


class FuzzItem(pytest.Item):
    """One fuzzer: its seed corpus, then some seconds of new inputs."""

    def runtest(self):
        binary = build_dir() / "fuzz" / self.path.stem
        if not binary.exists():
            raise Failure(f"{binary} is not built: run `make fuzz-build`")
        seconds = os.environ.get("FUZZ_SECONDS", "3")
        found = build_dir() / "fuzz" / "found" / self.path.stem
        found.mkdir(parents=True, exist_ok=True)
        seeds = TESTS / "fuzz" / "corpus" / self.path.stem.removeprefix("fuzz_")
        folders = [str(found)] + ([str(seeds)] if seeds.is_dir() else [])
        command = [str(binary), f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
                   "-print_final_stats=0", f"-artifact_prefix={found}-crash-", *folders]
        done = subprocess.run(command, cwd=build_dir(), env=sanitizer_environment(), check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, timeout=float(seconds) + 180)
        if done.returncode != 0:
            text = done.stdout.decode(errors="replace")
            raise Failure(f"{' '.join(command)}\nended with {done.returncode}:\n{text[-6000:]}")

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, Failure):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, 0, f"fuzz: {self.name}"


def collect_file(file_path, parent):
    """The collector for a C test or fuzzer; None for any other file."""
    if file_path.suffix == ".c" and file_path.is_relative_to(TESTS):
        if file_path.name.startswith("test_") and (TESTS / "unit") in file_path.parents:
            return UnitFile.from_parent(parent, path=file_path)
        if file_path.name.startswith("fuzz_") and (TESTS / "fuzz") in file_path.parents:
            return FuzzFile.from_parent(parent, path=file_path)
    return None
