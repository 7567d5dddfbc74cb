"""C text as the lints see it: which files there are, and where comments, prototypes and functions lie.

No parser of C: it relies on the layout that clang-format keeps (a function's braces in column 0).
"""
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.paths import ROOT

FOLDERS = ("base", "profile", "target", "sampler", "unwind", "symbolize", "output", "cmd")
LITERAL = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)


def tracked_files():
    """Every file of the tree that git knows or would add, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    paths = {Path(name) for name in names.decode().split("\0") if name}
    return sorted(path for path in paths if (ROOT / path).is_file())


def product_files(*suffixes):
    """Files of the program itself (not its tests) with one of the suffixes."""
    return [p for p in tracked_files() if p.parts[0] in FOLDERS and p.suffix in suffixes]


def c_files():
    """All C of the tree, tests included."""
    return [p for p in tracked_files() if p.suffix in (".c", ".h")]


def read(path):
    """The text of a file of the tree."""
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def blank(text, keep_strings=False):
    """The text with comments (and string contents) turned to spaces: lines and columns stay."""
    def hide(found):
        literal = found.group()
        if literal[0] == "/" or not keep_strings:
            return re.sub(r"[^\n]", " ", literal)
        return literal
    return LITERAL.sub(hide, text)


def blank_directives(text):
    """The text with preprocessor lines turned to spaces."""
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group()), text,
                  flags=re.M)


@dataclass
class Function:
    """A function definition: its name, first and last line (1-based, signature included)."""
    name: str
    first: int
    last: int

    @property
    def num_lines(self):
        """Lines from the signature to the closing brace."""
        return self.last - self.first + 1


def functions(text):
    """The functions defined in a C text."""
    lines = blank_directives(blank(text)).split("\n")
    found, signature_start, start = [], None, None
    for number, line in enumerate(lines, 1):
        if start is None:
            if line.startswith("{"):
                signature = " ".join(lines[(signature_start or number) - 1:number - 1])
                name = re.search(r"(\w+)\s*\(", signature)
                start = (name.group(1) if name else "?", signature_start or number)
            elif not line.strip() or line.rstrip().endswith((";", "}")):
                signature_start = None
            elif signature_start is None and not line[0].isspace():
                signature_start = number
        elif line.startswith("}"):
            if not line.rstrip().endswith(";"):
                found.append(Function(start[0], start[1], number))
            start = signature_start = None
    return found


def declarations(text):
    """Function declarations and definitions at file level of a header: (name, first line)."""
    code = blank_directives(blank(text))
    result, depth, statement, first = [], 0, "", None
    for number, line in enumerate(code.split("\n"), 1):
        for char in line + "\n":
            if char == "{":
                if depth == 0 and is_function(statement):
                    result.append((function_name(statement), first))
                depth += 1
            elif char == "}":
                depth -= 1
                if depth == 0:
                    # A struct's braces may be followed by attributes and a semicolon.
                    statement, first = "", None
            elif depth == 0:
                if char == ";":
                    if is_function(statement):
                        result.append((function_name(statement), first))
                    statement, first = "", None
                else:
                    if first is None and not char.isspace():
                        first = number
                    statement += char
    return result


def is_function(statement):
    """Whether a file-level statement declares or defines a function."""
    words = statement.split()
    return (bool(words) and "(" in statement and words[0] not in ("typedef", "struct_", "_Static_assert")
            and "=" not in statement.split("(")[0] and function_name(statement) is not None)


def function_name(statement):
    """The name a function statement declares; None when it declares none (a macro's use, a struct)."""
    plain = re.sub(r"__attribute__\s*\(\(.*?\)\)", " ", statement, flags=re.S)
    found = re.match(r"\s*(?:[A-Za-z_]\w*[\s*]+)+\**(\w+)\s*\(", plain)
    return found.group(1) if found else None


def line_of(text, position):
    """Line number of a position in a text."""
    return text.count("\n", 0, position) + 1


def report(findings):
    """Fails with all findings, one on a line."""
    assert not findings, "\n" + "\n".join(findings)
