"""Text from anywhere, without characters that would move the cursor."""

import pytest

from orchestrator.display.text import clean, plain


def test_text_cannot_move_the_cursor() -> None:
    assert clean("a\r\nb\x1b[2Jc\td") == "a b?[2Jc d"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("    deep", "    deep"), ("\ta\tb", "        a       b"), ("a\x1b[31mb\x07", "a?[31mb?")],
)
def test_a_plain_line_keeps_its_blanks(text: str, shown: str) -> None:
    assert plain(text) == shown
