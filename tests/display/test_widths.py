"""Text in as many columns as there are."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from orchestrator.display.text import clean
from orchestrator.display.widths import crop, squeeze
from tests.builders import LAW


@LAW
@given(st.text(max_size=40), st.integers(0, 30), st.booleans())
def test_cropped_text_fits(text: str, width: int, left: bool) -> None:
    text = clean(text)
    cropped = crop(text, width, left=left)
    assert cell_len(cropped) <= width
    assert cropped == text or "…" in cropped or width == 0


def test_a_name_is_cropped_where_names_are_alike() -> None:
    assert crop("model/stage4/block2/relu", 12, left=True) == "…block2/relu"
    assert crop("model/stage4/block2/relu", 12) == "model/stage…"


@LAW
@given(st.text(max_size=40), st.integers(0, 30))
def test_squeezed_text_fits_and_has_its_end(text: str, width: int) -> None:
    text = clean(text)
    short = squeeze(text, width)
    assert cell_len(short) <= width
    if short != text and width >= 7:
        assert short[-1] == text[-1]


def test_a_squeezed_name_has_both_ends() -> None:
    assert squeeze("airfoil-20261123-222045-ff0d", 16) == "airfo…22045-ff0d"
    assert squeeze("short", 16) == "short"
