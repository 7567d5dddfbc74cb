"""What an error must look like."""


def assert_refused(done, *words, status=1):
    """One line with object and cause, one with the remedy."""
    text = done.stderr.decode(errors="replace")
    assert done.returncode == status, text
    lines = text.splitlines()
    assert len(lines) == 2 and lines[0].startswith("cprofiler: ") and lines[1].startswith("  hint: "), text
    for word in words:
        assert word in text, text
