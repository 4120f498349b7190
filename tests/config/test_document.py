"""YAML 1.2 with lines, `--set` overrides, and the way back to text."""
# ruff: noqa: E501 - messages are quoted whole

import math
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config import document, yaml12
from orchestrator.errors import InvalidError


def read(text):
    return document.parse(text, name="a.yaml").value


def scalar(text):
    return read(f"a: {text}")["a"]


def problems(text, *assignments):
    return [str(problem) for problem in override(text, *assignments).problems]


def override(text, *assignments):
    return document.override(document.parse(text, name="a.yaml"), assignments)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5E+2", -150.0),
        ("1e400", math.inf),
        ("-.inf", -math.inf),
        ("12", 12),
        ("+3", 3),
        ("010", 10),
        ("0o10", 8),
        ("0xff", 255),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("'1'", "1"),
        ("!!str 3", "3"),
        ("=", "="),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_float():
    assert math.isnan(scalar(".nan"))


def test_every_key_and_item_has_its_line():
    found = document.parse("a: 1\nb:\n  - x: 2\n  -\n    y: 3\n", name="a.yaml")
    assert found.lines == {
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 0, "x"): 3,
        ("b", 1): 5,
        ("b", 1, "y"): 5,
    }


def test_a_problem_stands_at_the_key_or_its_nearest_parent():
    found = document.parse("a: 1\nb:\n  c: 2\n", name="a.yaml")
    assert str(found.problem(("b", "c"), "wrong")) == "a.yaml:3: b.c: wrong"
    assert str(found.problem(("b", "d", 0), "wrong")) == "a.yaml:2: b.d.0: wrong"
    assert str(found.problem(("z",), "wrong")) == "a.yaml:1: z: wrong"


@pytest.mark.parametrize("bytes_before", [b"", b"\xef\xbb\xbf"])
def test_a_file_is_read_with_or_without_byte_order_mark_and_kept(tmp_path, bytes_before):
    path = tmp_path / "a.yaml"
    path.write_bytes(bytes_before + b"a: \xc3\xa9\r\nb: 1\r\n")
    found = document.read(path)
    assert found.value == {"a": "é", "b": 1}
    assert found.source == path.read_bytes()
    assert found.lines[("b",)] == 2


def test_aliases_and_merge_keys_repeat_what_they_name():
    text = "a: &x {k: 1, l: 2}\nb: *x\nc: {<<: *x, l: 3}\nd: {<<: [{k: 4}, {k: 5, m: 6}]}\n"
    assert read(text) == {
        "a": {"k": 1, "l": 2},
        "b": {"k": 1, "l": 2},
        "c": {"k": 1, "l": 3},
        "d": {"k": 4, "m": 6},
    }


def test_repeated_keys_are_problems_with_both_lines():
    assert sorted(problems("a: 1\nb: {c: 1, d: 2,\n c: 3}\na: 4\n")) == [
        "a.yaml:3: b.c: the key is given twice, first on line 2; keep one",
        "a.yaml:4: a: the key is given twice, first on line 1; keep one",
    ]


BOMB = "a0: &a0 [1,2,3,4,5,6,7,8,9]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\tb: 1\n", r"a\.yaml:2: not YAML: .*'\\t'.*; indent with spaces, not tabs"),
        ("a: 1\nb: {c: 1\nd: 2\n", r"a\.yaml:2: not YAML: while parsing a flow mapping.*line 3"),
        ("a: 1\nb: [1, 2\n\n", r"a\.yaml:2: not YAML: .*; close the bracket"),
        ("a: 1\nb: 'x\nc: 2\n\n", r"a\.yaml:2: not YAML: .*; close the quote"),
        ("a: 1\nb\nc: 2\n", r"a\.yaml:2: not YAML: .*; a key needs a colon behind it"),
        ("a: 1\n  b: 2\n", r"a\.yaml:2: not YAML: .*; check the indentation"),
        ("a: 1\n- b\n", r"a\.yaml:2: not YAML: .*; check the indentation"),
        ("a: @x\n", r"a\.yaml:1: not YAML: .*; quote the text"),
        ("a: *x\n", r"a\.yaml:1: not YAML: found undefined alias 'x'"),
        ("a: 1\n---\nb: 1\n", r"not YAML: expected a single document"),
        ("a: 1\nb: \0\n", r"a\.yaml:2: not YAML: the character 0x0000 is not allowed"),
        ("a: &x [*x]\n", r"a\.yaml:1: an alias contains itself"),
        ("a: &x\n  b: {<<: *x}\n", r"a\.yaml:.: an alias contains itself"),
        (BOMB, r"more than 50000 values, aliases counted each time"),
        ("a: " + "[" * 10_000, r"a\.yaml:1: nested more than 100 levels deep"),
        ("".join(" " * i + "a:\n" for i in range(200)), r"a\.yaml:101: nested more than 100"),
        ("a: !!python/object/apply:os.system [x]\n", r"a\.yaml:1: the tag !!python/\S* is not all"),
        ("a: !!python/name:os.system\n", r"the tag !!python/name:os\.system is not allowed"),
        ("a: !!binary aGk=\n", r"the tag !!binary is not allowed; write plain values"),
        ("a: !mine {x: 1}\n", r"the tag !mine is not allowed"),
        ("a: !!int x\n", r"a\.yaml:1: invalid literal for int\(\) with base 10: 'x'"),
        ("a: !!bool x\n", r"a\.yaml:1: expected a boolean, received 'x'"),
        ("b: 1\na: " + "9" * 5000, r"a\.yaml:2: a number of 5000 digits is too long"),
        ("a: 0x" + "f" * 5000, r"a\.yaml:1: a number of 5002 digits is too long"),
        ('a: "\\ud800"\n', r"a\.yaml:1: the text has half a surrogate pair in it"),
        ("a: {<<: 3}\n", r"a\.yaml:1: expected a mapping, or a list of mappings, behind <<"),
        ("a: 1\n1.5: 2\n", r"a\.yaml:2: expected a text or an integer as a key"),
        ("true: 2\n", r"a\.yaml:1: expected a text or an integer as a key"),
        ("~: 2\n", r"a\.yaml:1: expected a text or an integer as a key"),
        ("[1]: 2\n", r"a\.yaml:1: expected a text or an integer as a key"),
        ("", r"a\.yaml: expected a mapping of keys, received an empty file"),
        ("# nothing\n", r"a\.yaml: expected a mapping of keys, received an empty file"),
        ("- a\n", r"a\.yaml: expected a mapping of keys, received a list"),
        ("hello\n", r"a\.yaml: expected a mapping of keys, received a single value"),
    ],
)
def test_what_is_no_config_is_refused_with_its_line(text, message):
    with pytest.raises(InvalidError, match=message):
        read(text)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InvalidError, match=r"none\.yaml: no such file; check the path"):
        document.read(tmp_path / "none.yaml")
    with pytest.raises(InvalidError, match="expected a file, received a folder"):
        document.read(tmp_path)
    with pytest.raises(InvalidError, match="cannot be read: File name too long"):
        document.read(tmp_path / ("a" * 5000))
    with pytest.raises(InvalidError, match="cannot be read: embedded null byte"):
        document.read(tmp_path / "\0")


def test_bytes_that_are_not_utf_8_are_named_with_their_line(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(InvalidError, match=r"latin\.yaml:2: expected UTF-8 text, .* byte 0xe9"):
        document.read(path)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("a.b=2", {"a": {"b": 2}, "l": [{"x": 1}, 5], "n": None}),
        ("a.c.d=1e-3", {"a": {"b": 1, "c": {"d": 0.001}}, "l": [{"x": 1}, 5], "n": None}),
        ("l.0.x=on", {"a": {"b": 1}, "l": [{"x": "on"}, 5], "n": None}),
        ("l.1={y: [1, 2]}", {"a": {"b": 1}, "l": [{"x": 1}, {"y": [1, 2]}], "n": None}),
        ("n.k=true", {"a": {"b": 1}, "l": [{"x": 1}, 5], "n": {"k": True}}),
        ("l=", {"a": {"b": 1}, "l": None, "n": None}),
        ("new=a=b", {"a": {"b": 1}, "l": [{"x": 1}, 5], "n": None, "new": "a=b"}),
    ],
)
def test_set_puts_a_typed_value_at_a_path(assignment, value):
    assert override("a: {b: 1}\nl: [{x: 1}, 5]\nn:\n", assignment).value == value


def test_set_reaches_integer_keys_that_are_there():
    assert override("w: {0: 1.0, 1: 2.0}\n", "w.1=3").value == {"w": {0: 1.0, 1: 3}}


def test_later_assignments_win_and_replace_the_origin_of_earlier_ones():
    found = override("a: {b: 1}\n", "a.b=2", "a={b: 3}")
    assert found.value == {"a": {"b": 3}}
    assert found.overrides == {("a",): "a={b: 3}"}


def test_a_problem_in_an_overridden_value_names_the_assignment_not_the_old_line():
    found = override("a:\n  b: 1\n", "a={b: 2}")
    assert str(found.problem(("a", "b"), "wrong")) == "--set a={b: 2}: a.b: wrong"


def test_a_mapping_that_an_assignment_makes_is_blamed_on_it():
    found = override("a: 1\n", "b.c.d=2")
    assert str(found.problem(("b",), "wrong")) == "--set b.c.d=2: b: wrong"


def test_a_problem_of_a_mapping_that_was_changed_inside_names_both():
    found = override("x: 0\na: {b: 1}\n", "a.c=2")
    expected = "a.yaml:2: a: wrong; do this; changed by --set a.c=2"
    assert str(found.problem(("a",), "wrong", "do this")) == expected
    assert str(found.problem(("x",), "wrong")) == "a.yaml:1: x: wrong"


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("a", "--set a: expected KEY=VALUE, with dots between the keys; as in batch_size=64"),
        ("=1", "--set =1: expected KEY=VALUE, with dots between the keys; as in batch_size=64"),
        ("a..b=1", "--set a..b=1: expected KEY=VALUE, with dots between the keys; as in batch_size=64"),
        ("l.2=1", "--set l.2=1: there is no l.2: expected an index from 0 to 1"),
        ("l.-1=1", "--set l.-1=1: there is no l.-1: expected an index from 0 to 1"),
        ("l.²=1", "--set l.²=1: there is no l.²: expected an index from 0 to 1"),
        ("l.x.y=1", "--set l.x.y=1: there is no l.x: expected an index from 0 to 1"),
        ("e.0=1", "--set e.0=1: there is no e.0: the list is empty"),
        ("a.b.c=1", "--set a.b.c=1: a.b is a single value, it has no keys; set a.b as a whole"),
        ("a={c: 1, c: 2}", "--set a={c: 1, c: 2}: c: the key is given twice, first on line 1; keep one"),
    ],
)  # fmt: skip
def test_an_assignment_that_fits_nowhere_is_a_problem(assignment, problem):
    assert problems("a: {b: 1}\nl: [1, 2]\ne: []\n", assignment) == [problem]


@pytest.mark.parametrize("value", ["[", "@", "*x", "!!python/name:os", "\0", "9" * 400])
def test_a_value_that_is_no_yaml_is_a_problem_without_a_line(value):
    (problem,) = override("a: 1\n", f"a={value}").problems
    assert problem.file.startswith("--set a=")
    assert problem.line is None
    assert len(problem.file) <= 90


def test_all_assignments_and_repeated_keys_are_reported_together():
    found = problems("a: 1\na: 2\n", "b", "c", "a=3")
    assert [text.split(": ")[0] for text in found] == ["a.yaml:2", "--set b", "--set c"]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**298), 10**298) | st.floats() | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


def same(left, right):
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return left == right and type(left) is type(right)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(texts, plain, max_size=3))
def test_dumped_values_read_back_the_same(value):
    assert same(value, read(yaml12.dump(value)))


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "1e3",
        "0o7",
        "~",
        "null",
        ".nan",
        "true",
        "<<",
        "",
        " a",
        "a: b",
        "\x85",
        "\u2028",
        "a\n b ",
    ],
)
def test_texts_that_look_like_other_scalars_survive(text):
    assert read(yaml12.dump({"a": text, text: 1})) == {"a": text, text: 1}


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet=st.sampled_from("ab01:-[]{}&*!|>'\"%@`#,.?~<= \n\t\\\0é"), max_size=60))
def test_arbitrary_text_is_read_or_refused(text):
    try:
        assert isinstance(read(text), dict)
    except InvalidError as error:
        assert error.problems


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=30), st.text(alphabet="ab0.=[]{}:'é² \n", max_size=30))
def test_arbitrary_assignments_are_taken_or_reported(first, second):
    found = override("a: {b: 1}\nl: [1, 2]\n", first, second)
    assert isinstance(found.value, dict)
    assert yaml.safe_dump(found.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n" * 200_000, r":100000: more than 50000 values"),
        ("a: &a " + "x" * 30_000 + "\nb: [" + "*a, " * 40 + "]", r":1: more than 1000000 char"),
        ("a: !" + "t" * 10_000 + " 1", r":1: the tag !t{99} is not allowed"),
        ("a: *" + "t" * 10_000, r":1: not YAML: found undefined alias 't{200,300}…"),
        ("a: 1\n" + "k" * 10_000 + ": [", "mapping values are not allowed|end of stream|expected"),
    ],
    ids=["values", "characters", "tag", "alias", "key"],
)
def test_what_has_no_end_is_refused_early_and_in_few_words(text: str, message: str) -> None:
    begun = time.process_time()
    with pytest.raises(InvalidError, match=message) as caught:
        document.parse(text, name="f")
    assert len(str(caught.value)) < 500
    assert time.process_time() - begun < 20


def test_a_file_without_an_end_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").symlink_to("/dev/zero")
    with pytest.raises(InvalidError, match=r"c\.yaml: a config has at most 4 MB"):
        document.read(tmp_path / "c.yaml")


def test_long_keys_are_cut_in_messages() -> None:
    found = document.parse("a: 1", name="f").problem(("a", "k" * 1000), "wrong")
    assert len(str(found)) < 150
