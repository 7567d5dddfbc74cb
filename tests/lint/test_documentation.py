"""Every header is a manual: an opening block, and a comment above each function."""
import re

from c_source import declarations, product_files, read, report


def undocumented(path, text):
    """Functions of a header without a comment that ends on the line above."""
    lines = text.split("\n")
    for name, first in declarations(text):
        above = lines[first - 2].rstrip() if first >= 2 else ""
        if not above.endswith("*/"):
            yield f"{path}:{first}: {name}() has no comment directly above"


def test_every_function_of_a_header_is_documented():
    report([finding for path in product_files(".h") for finding in undocumented(path, read(path))])


def test_the_rule_itself_notices_a_bare_function():
    bare = '#ifndef A_H\n#define A_H\n\nstruct a *a_create(int x, void (*f)(int))\n    MUST_CHECK;\n#endif\n'
    assert [f for f in undocumented("a.h", bare) if "a_create" in f]
    inline = "/* An a. */\nstruct a { int x; };\n\nstatic inline int a_x(struct a *a)\n{\n    return a->x;\n}\n"
    assert [f for f in undocumented("a.h", inline) if "a_x" in f]
    assert not list(undocumented("a.h", "/* Makes it. */\nint a(void);\n"))


def test_every_header_opens_with_a_block_that_says_what_it_is():
    findings = []
    for path in product_files(".h"):
        opening = re.match(r"/\*.*?\*/", read(path), re.S)
        if not opening:
            findings.append(f"{path}: does not open with a block comment")
        elif len(opening.group().split()) < 12:
            findings.append(f"{path}: its opening block says next to nothing")
    report(findings)


def test_guards_are_named_after_the_file():
    findings = []
    for path in product_files(".h"):
        guard = re.sub(r"\W", "_", str(path)).upper()
        found = re.search(r"^#ifndef (\w+)\n#define (\w+)", read(path), re.M)
        if not found or found.group(1) != guard or found.group(2) != guard:
            findings.append(f"{path}: its include guard must be {guard}")
    report(findings)
