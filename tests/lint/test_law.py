"""The law of the C (CONTRIBUTING.md): what no compiler checks."""
import re
import warnings

from c_source import (blank, c_files, functions, line_of, product_files, read, report, tracked_files)

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 100
LONG_FUNCTION_LINES = 60
# Below cmd/ nothing prints and nothing ends the program. _exit() in a forked child is fine.
FORBIDDEN_BELOW_CMD = re.compile(
    r"(?<![\w.>])(?:v?printf|puts|putchar|perror|psignal|exit|abort|quick_exit|v?errx?|v?warnx?|error)\s*\("
    r"|\bf(?:printf|puts|putc|write)\s*\([^;]*\b(?:stderr|stdout)\b")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK|WIP)\b")
# Words that the glossary gives another name.
FOREIGN_WORDS = re.compile(r"\b(?:tracees?|victims?|backtraces?|dsos?|backends?|exporters?|formatters?)\b", re.I)
MACHINE_PATHS = re.compile(r"/work/|/root/\.|/home/\w")


def search(pattern, path, text, message):
    """One finding for each match of a pattern."""
    return [f"{path}:{line_of(text, found.start())}: {message}: {found.group().strip()[:60]}"
            for found in pattern.finditer(text)]


def test_nothing_below_cmd_prints_or_exits():
    findings = []
    for path in product_files(".c", ".h"):
        if path.parts[0] != "cmd" and ".bpf." not in path.name:
            findings += search(FORBIDDEN_BELOW_CMD, path, blank(read(path)), "belongs to cmd/")
    report(findings)


def test_the_rule_itself_notices_a_print():
    for bad in ("printf(x);", "exit(1);", "fprintf(stderr, x);", "errx(1, x);"):
        assert FORBIDDEN_BELOW_CMD.search(bad), bad
    for good in ("snprintf(x);", "_exit(1);", "fprintf(stream, x);", "log_error(x);", "a->exit(1);"):
        assert not FORBIDDEN_BELOW_CMD.search(good), good


def test_no_goto_in_the_program():
    goto = re.compile(r"\bgoto\b")
    report([f for path in product_files(".c", ".h")
            for f in search(goto, path, blank(read(path)), "use a scope guard")])


def test_no_typedef_of_structs():
    typedef = re.compile(r"\btypedef\s+(?:struct|union|enum)\b\s*\w*\s*(?:\{|\w+\s*;)")
    report([f for path in product_files(".c", ".h")
            for f in search(typedef, path, blank(read(path)), "name the tag instead")])


def test_files_are_short():
    report([f"{path}: {count} lines, more than {MAX_FILE_LINES}"
            for path in tracked_files() if path.suffix in (".c", ".h", ".py", ".cc")
            for count in [read(path).count("\n")] if count > MAX_FILE_LINES])


def test_functions_are_short():
    findings = []
    for path in product_files(".c", ".h"):
        for function in functions(read(path)):
            text = f"{path}:{function.first}: {function.name}() has {function.num_lines} lines"
            if function.num_lines > MAX_FUNCTION_LINES:
                findings.append(text)
            elif function.num_lines > LONG_FUNCTION_LINES:
                warnings.warn(text)
    report(findings)


def test_functions_are_found():
    """Guards the counting itself: every .c file with code has functions, and their ends are after
    their starts."""
    counted = [(path, functions(read(path))) for path in product_files(".c")]
    assert sum(len(found) for _, found in counted) > len(counted)
    assert all(function.num_lines >= 3 for _, found in counted for function in found)


def test_nothing_is_left_unfinished():
    lints = "tests/lint/"
    report([f for path in tracked_files() if path.suffix in (".c", ".h", ".py", ".sh", ".md", ".1", ".cc", "")
            and not str(path).startswith(lints) for f in search(UNFINISHED, path, read(path), "unfinished")])


def test_words_are_those_of_the_glossary():
    paths = product_files(".c", ".h") + [p for p in tracked_files() if p.suffix in (".1", ".md")]
    report([f for path in paths if path.name != "glossary.md"
            for f in search(FOREIGN_WORDS, path, read(path), "see docs/glossary.md")])


def test_no_bare_addr():
    """A pc, an elf_addr or a file_off; members of the kernel's structs keep their names."""
    bare = re.compile(r"(?<![\w.>])(?:u?int64_t|Elf64_Addr|GElf_Addr|Dwarf_Addr|uintptr_t)\s+addr\b")
    report([f for path in product_files(".c", ".h")
            for f in search(bare, path, blank(read(path)), "say which address it is")])


def test_no_path_of_one_machine():
    report([f for path in tracked_files() if not str(path).startswith("tests/lint/")
            for f in search(MACHINE_PATHS, path, read(path), "a path of one machine")])


def test_every_unit_test_has_a_source():
    """tests/unit/FOLDER/ mirrors the folders."""
    findings = []
    for path in c_files():
        if path.parts[:2] == ("tests", "unit") and path.suffix == ".c" and len(path.parts) != 4:
            findings.append(f"{path}: belongs into tests/unit/FOLDER/")
    report(findings)
