"""What `arrayoptim` shows, and its modules for other frameworks under their public names."""

import importlib
import importlib.util
import inspect
import subprocess
import sys

import pytest

import adapter_stubs
import arrayoptim as ao
from arrayoptim import adapters

MODULES = sorted(adapters.MODULES)


def usable(name):
    """Whether a module can be imported here."""
    return name in adapters.installed()


@pytest.mark.parametrize("name", MODULES)
def test_an_adapter_is_one_module_by_every_way(name, monkeypatch):
    if not usable(name):
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    public = importlib.import_module(f"arrayoptim.{name}")
    assert public is getattr(ao, name)
    assert public is importlib.import_module(f"arrayoptim.adapters.{name}")
    assert public is sys.modules[f"arrayoptim.{name}"]
    scope = {}
    exec(f"from arrayoptim.{name} import Adam, wrap", scope)
    assert scope["Adam"].__name__ == "Adam"
    assert scope["wrap"] is public.wrap


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_framework_is_named_with_its_extra(name):
    # In a process of its own: here the framework may be imported already.
    needed = adapters.MODULES[name]
    code = f"import sys; sys.modules[{needed!r}] = None\nimport arrayoptim.{name}"
    ways = [
        code,
        code.replace(f"import arrayoptim.{name}", f"import arrayoptim; arrayoptim.{name}"),
    ]
    for way in ways:
        done = subprocess.run([sys.executable, "-c", way], capture_output=True, text=True)
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("ModuleNotFoundError: arrayoptim.")
        assert f'pip install "arrayoptim[{name}]"' in last


def test_another_missing_module_is_not_taken_for_the_framework(monkeypatch):
    def missing(name, package):
        raise ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")

    monkeypatch.setattr(adapters, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match="elsewhere"):
        adapters.adapter("torch")


def test_dir_lists_what_is_public():
    shown = [name for name in dir(ao) if not name.startswith("__")]
    assert {"Adam", "load", "minimize", "schedules", "testing", *adapters.installed()} <= set(shown)
    assert not set(shown) - {*ao.__all__, *MODULES, "testing"}
    assert not [name for name in shown if name.startswith("_")]


def test_dir_names_no_adapter_whose_framework_is_missing(monkeypatch):
    monkeypatch.setattr(adapters, "find_spec", lambda name: None)
    assert not set(dir(ao)) & set(MODULES)


def test_every_public_name_is_there():
    for name in ao.__all__:
        assert getattr(ao, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'tensorfloww'"):
        ao.tensorfloww  # noqa: B018


def test_importing_the_package_imports_no_framework():
    names = sorted({*adapters.MODULES.values(), "optax"})
    code = f"import sys, arrayoptim as ao; dir(ao); print([n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", MODULES)
def test_the_stubs_are_those_of_the_declarations(name, monkeypatch):
    if not usable(name):
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    written = (adapter_stubs.PACKAGE / f"{name}.pyi").read_text(encoding="utf-8")
    assert written == adapter_stubs.stub(name), "run: python docs/made.py"


def test_a_stub_has_the_order_of_the_constructor():
    rows = adapter_stubs.signature("scipy", "SGD")
    wanted = [
        p.name
        for p in inspect.signature(ao.SGD).parameters.values()
        if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    assert [key for key in rows if key != "*"][: len(wanted)] == wanted
    assert rows["lr"] == "lr: float | SupportsFloat | Schedule = 0.01"
    assert rows["nesterov"] == "nesterov: bool = False"


def test_a_step_imports_no_other_optimizer_and_no_tool():
    code = (
        "import sys, numpy, arrayoptim as ao\n"
        "ao.Adagrad().apply(numpy.ones(2), numpy.ones(2))\n"
        "print([name for name in sys.modules if name.startswith('arrayoptim.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(eval(done.stdout))
    rooms = {name.split(".")[1] for name in imported}
    assert {"optimizers", "step", "engines"} <= rooms
    later = {"callbacks", "explaining", "finding", "foreign", "persistence", "search", "testing"}
    assert not rooms & {*later, "training", "wrappers"}
    files = {name for name in imported if name.startswith("arrayoptim.optimizers.")}
    assert files == {"arrayoptim.optimizers.adagrad"}


def test_a_class_of_a_taken_name_is_refused_before_the_other_is_imported():
    code = (
        "import arrayoptim as ao\n"
        "class Lion(ao.Optimizer): pass\n"
        "try: ao.register(Lion)\n"
        "except ValueError as error: print(error)\n"
        "print(ao.get('lion'), ao.get({'class_name': 'sam', 'config': {'inner': ao.Lion()}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    told = done.stdout.splitlines()
    assert "'Lion' is already registered (arrayoptim.optimizers.lion)" in told[0], done.stderr
    assert told[1].startswith("Lion(") and "SAM(" in told[1]
