"""The user's functions: found, called with what fits them, and blamed when they raise."""

import signal
import sys

import keras
import pytest

from orchestrator.config import load as config
from orchestrator.config import user_code
from orchestrator.errors import InvalidError, UserCodeError

BASE = """\
data:
  train: {callable: "MODULE:make"}
model: {factory: {callable: "MODULE:build"}}
phases: [{name: main, epochs: 1}]
"""
KEY = ("data", "train", "callable")


@pytest.fixture
def project(tmp_path, monkeypatch, request):
    """A folder with a config and a module of its own name; the import state is put back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    module = f"mine_{abs(hash(request.node.name))}"

    def write(source, *, name=module):
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        (tmp_path / "c.yaml").write_text(BASE.replace("MODULE", module))
        return config.load(tmp_path / "c.yaml"), name

    yield write
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_a_function_is_found_beside_the_config(project):
    loaded, module = project("def make(): return 3")
    assert user_code.find(f"{module}:make", loaded, key=KEY)() == 3
    assert sys.path[0] == loaded.base


def test_packages_and_methods_are_found(project):
    loaded, module = project("class A:\n  @staticmethod\n  def make(): return 4", name="pack.inner")
    assert user_code.find(f"{module}:A.make", loaded, key=KEY)() == 4


@pytest.mark.parametrize(
    ("source", "reference", "message"),
    [
        (
            "",
            "none_such:f",
            r"c\.yaml:2: data.train.callable: there is no module 'none_such'; modu",
        ),
        ("", "MODULE.sub:f", r"there is no module 'MODULE.sub'; modules are looked up from /"),
        ("def make(): 0", "MODULE:mak", r"MODULE has no 'mak'; did you mean 'make'\?"),
        ("", "MODULE:make", r"MODULE has no 'make'; there is none to choose from"),
        ("x = 3", "MODULE:x", r"expected a function, received int"),
        ("x = 3", "MODULE:x.y", r"MODULE has no 'y'"),
    ],
)
def test_what_is_not_there_is_the_configs_problem(project, source, reference, message):
    loaded, module = project(source)
    with pytest.raises(InvalidError, match=message.replace("MODULE", module)):
        user_code.find(reference.replace("MODULE", module), loaded, key=KEY)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import none_such_either",
            r"ModuleNotFoundError: No module named 'none_such_either' \(.*:1",
        ),
        (
            "x = 1\ny = x / 0",
            r"ZeroDivisionError: division by zero \(.*/MODULE.py:2, in <module>\)",
        ),
        ("def f(:", r"SyntaxError: invalid syntax"),
        ("import sys; sys.exit(3)", r"SystemExit: 3"),
    ],
)
def test_a_module_that_raises_while_imported_is_blamed(project, source, message):
    loaded, module = project(source)
    expected = f"the module MODULE raised {message}".replace("MODULE", module)
    with pytest.raises(UserCodeError, match=expected):
        user_code.find(f"{module}:make", loaded, key=KEY)


@pytest.mark.parametrize(
    ("signature", "kwargs", "message"),
    [
        ("width", {}, r"c\.yaml:2: data\.train\.kwargs: .* missing a required argument: 'width'"),
        ("width", {"widht": 1}, r"did you mean 'width'\?"),
        ("width=1", {"x": 1}, r"got an unexpected keyword argument 'x'; expected one of width"),
        ("width, /", {"width": 1}, r"'width'"),
    ],
)
def test_arguments_that_do_not_fit_are_the_configs_problem(project, signature, kwargs, message):
    loaded, module = project(f"def make({signature}): pass")
    function = user_code.find(f"{module}:make", loaded, key=KEY)
    with pytest.raises(InvalidError, match=message):
        user_code.check_arguments(function, kwargs, loaded, key=("data", "train", "kwargs"))


@pytest.mark.parametrize("signature", ["width", "width=2, height=3", "**any"])
def test_arguments_that_fit_are_left_alone(project, signature):
    loaded, module = project(f"def make({signature}): pass")
    function = user_code.find(f"{module}:make", loaded, key=KEY)
    user_code.check_arguments(function, {"width": 1}, loaded, key=KEY)
    user_code.check_arguments(dict, {"width": 1}, loaded, key=KEY)  # no signature to go by


def test_the_blame_names_the_innermost_line_of_the_users(project):
    loaded, module = project(
        "import json\ndef make():\n  inner()\ndef inner():\n  json.loads('{')\n"
    )
    function = user_code.find(f"{module}:make", loaded, key=KEY)
    with (
        pytest.raises(UserCodeError, match=rf"f raised JSONDecodeError: .*{module}.py:5, in inner"),
        user_code.blamed("f"),
    ):
        function()


def test_expected_errors_and_interrupts_pass_through_unblamed(monkeypatch):
    # Tests of the command line leave it ignored in this process.
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
    with pytest.raises(InvalidError, match="^$"), user_code.blamed("f"):
        raise InvalidError([])
    with pytest.raises(KeyboardInterrupt, match="now"), user_code.blamed("f"):
        raise KeyboardInterrupt("now")


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "SystemExit", "asyncio.CancelledError"])
def test_what_is_no_exception_is_the_users_where_ctrl_c_raises_none(project, monkeypatch, raised):
    """As in a worker, where a thread of Keras's would end by it and the training wait for ever."""
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    loaded, module = project(f"import asyncio\ndef make(): raise {raised}('now')")
    function = user_code.find(f"{module}:make", loaded, key=KEY)
    said = rf"raised {raised.rpartition('.')[2]}: now \(.*{module}.py:2, in make"
    with pytest.raises(UserCodeError, match=f"^f {said}"), user_code.blamed("f"):
        function()
    with (
        pytest.raises(UserCodeError, match=f"^your code {said}"),
        user_code.refused(loaded, KEY, "Keras cannot train the model"),
    ):
        function()


def test_a_generator_that_is_put_aside_raises_nothing():
    def held():
        with user_code.blamed("f"):
            yield

    waiting = held()
    next(waiting)
    waiting.close()


def test_only_errors_with_a_frame_of_the_users_are_theirs(project):
    loaded, module = project("def make(): raise ValueError")
    function = user_code.find(f"{module}:make", loaded, key=KEY)
    with pytest.raises(ValueError, match="^$") as caught:
        function()
    assert user_code.raised_in_user_code(caught.value)
    assert user_code.describe(caught.value).startswith("ValueError (")
    assert not user_code.raised_in_user_code(ValueError("never raised"))
    assert user_code.describe(ValueError("one\ntwo")) == "ValueError: one two"


def test_what_keras_says_of_a_model_is_the_configs_problem_and_the_rest_is_not(project):
    """By who raised: Keras, the user's own code, a library that either of them calls, or ours."""
    loaded, module = project(
        "import json\n"
        "import keras\n"
        "def call(): return keras.layers.Dense(1)([[[1.0]], 2])\n"
        "def own(): raise RuntimeError('no')\n"
        "def library(): json.loads('{')\n"
    )
    found = {
        name: user_code.find(f"{module}:{name}", loaded, key=KEY)
        for name in ("call", "own", "library")
    }

    def run(call, expected, match):
        keras.config.disable_traceback_filtering()
        try:
            with pytest.raises(expected, match=match), user_code.refused(loaded, KEY, "refused"):
                call()
        finally:
            keras.config.enable_traceback_filtering()

    run(found["call"], InvalidError, rf"refused: .*{module}.py:3, in call\)$")
    run(found["own"], UserCodeError, f"your code raised RuntimeError: no .*{module}.py:4, in own")
    run(found["library"], UserCodeError, f"JSONDecodeError: Expecting .*{module}.py:5, in library")
    run(lambda: user_code.find(3, loaded, key=KEY), AttributeError, "partition")
