"""Everything the project does to itself: ``nox -l`` is the menu, ``nox`` runs the starred.

Sessions use pip in environments of their own below ``.nox``; a Python that is not installed is
skipped. What follows ``--`` goes to the tool that the session runs; ``nox -R`` runs a session again
with what is installed already, without a network.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests", "doctest(numpy)", "docs"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
FULL = "3.11"  # the Python on which every backend is installed

# One release, so that one download serves all: on Linux a newer one brings gigabytes of CUDA.
TORCH = "torch==2.13.0"
PARALLEL = ["--numprocesses=auto", "--maxprocesses=8"]  # `-- -n0` for one after another
BACKENDS = {
    "numpy": [],
    "torch": [TORCH],
    "jax": ["jax"],
    "array_api_strict": [],
}
FRAMEWORKS = [
    "equinox",
    "flax",
    "keras",
    "optax",
]  # for examples and comparisons, where all is asked for
# What each adapter is tested with: packages, tests, and the arrays of these.
ADAPTERS = {
    "keras": ([TORCH, "jax", "keras", "tensorflow"], ["test_keras.py"], "numpy"),
    "mpi": (["mpi4py", "mpich"], ["test_mpi.py"], "numpy"),
    "optax": (
        ["jax", "optax", "equinox", "flax", "orbax-checkpoint"],
        ["test_optax*.py", "test_jax_*.py"],
        "jax",
    ),
    "scipy": (["scipy"], ["test_scipy.py"], "numpy"),
    "torch": ([TORCH], ["test_torch_*.py"], "torch"),
}
LIBRARIES = {"dpnp": ["dpnp"], "mlx": ["mlx[cpu]"]}
CONTRACT = ["conformance/test_*.py", "unit/test_clipping.py", "unit/test_groups.py"]
DOCTEST = ["--doctest-modules", "--doctest-glob=*.rst", "--doctest-ignore-import-errors"]
EXAMPLES = ["src/arrayoptim", "docs", "tests/project/test_readme.py"]
PAIRS = [(python, name) for python in PYTHONS for name in ("numpy", "jax", "strict")]
PAIRS += [(FULL, "torch"), (FULL, "others"), (FULL, "all")]


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group of ``pyproject.toml``."""
    return nox.project.dependency_groups(PROJECT, name)


def backends(name: str) -> tuple[list[str], dict[str, str]]:
    """Return what a choice of backends needs installed, and the variable that tells the tests."""
    short = {"strict": "array_api_strict"}
    several = {"all": list(BACKENDS), "others": list(BACKENDS)[1:]}
    chosen = several.get(name, [short.get(name, name)])
    needed = [requirement for backend in chosen for requirement in BACKENDS[backend]]
    needed += FRAMEWORKS if name in several else []
    # Keras asks for TensorFlow unless it is told otherwise.
    return needed, {"ARRAYOPTIM_TEST_BACKENDS": ",".join(chosen), "KERAS_BACKEND": "torch"}


def check(session: nox.Session, name: str, *options: str) -> None:
    """Install the package and a choice of backends, then run pytest on every core.

    With all backends, or all but NumPy, the examples of docstrings and docs run before.
    """
    needed, variables = backends(name)
    whole = name in ("all", "others")
    needed += group("gpu_source") if whole else []
    session.install("-e", ".[demo]", *group("coverage"), *needed)
    if whole:
        session.run("pytest", *PARALLEL, *DOCTEST, *EXAMPLES[:2], env=variables)
    session.run("pytest", *PARALLEL, *options, *session.posargs, env=variables)


@nox.session(tags=["quick"])
def lint(session: nox.Session) -> None:
    """Style, spelling, the shelves, the dependencies, the docstrings (fixes: ``-- --fix``)."""
    session.install("-e", ".", *group("lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []))
    session.run("ruff", "format", *([] if fix else ["--diff"]))
    session.run("codespell")
    session.run("lint-imports", "--no-cache")
    session.run("deptry", ".")
    session.run("numpydoc", "lint", *sorted(map(str, Path("src").rglob("*.py"))))


@nox.session(tags=["quick"])
def types(session: nox.Session) -> None:
    """Check the types of the package, strictly, and what its users' editors see of them."""
    session.install("-e", ".", *group("types"))
    session.run("mypy", *session.posargs)
    session.run("basedpyright", "--level", "error")


@nox.session(tags=["quick"])
def tests(session: nox.Session) -> None:
    """Test the usual optimizers on NumPy alone with this Python, without the slow tests."""
    session.log("First what the tests need is installed, which -R leaves out the next time.")
    session.log(
        "Then they run on every core, some minutes at most; `nox -l` lists what more there is."
    )
    check(session, "numpy", "-m", "not slow and not every")


@nox.session
@nox.parametrize("python,backend", sorted(PAIRS), ids=["-".join(pair) for pair in sorted(PAIRS)])
def matrix(session: nox.Session, backend: str) -> None:
    """Test one pair of Python and backend."""
    check(session, backend)


@nox.session(python=FULL)
@nox.parametrize("framework", list(ADAPTERS), ids=list(ADAPTERS))
def frameworks(session: nox.Session, framework: str) -> None:
    """Test the adapter of one framework with it, the slow tests included."""
    needed, names, library = ADAPTERS[framework]
    session.install("-e", ".", *group("test"), *needed)
    _, variables = backends(library)
    tests = sorted(str(path) for name in names for path in Path("tests").rglob(name))
    session.run("pytest", *PARALLEL, *tests, *session.posargs, env=variables)


@nox.session(python=FULL)
@nox.parametrize("library", list(LIBRARIES), ids=list(LIBRARIES))
def libraries(session: nox.Session, library: str) -> None:
    """Test the contract on the arrays of a further library."""
    session.install("-e", ".[demo]", *group("test"), *LIBRARIES[library])
    variables = {"ARRAYOPTIM_TEST_BACKENDS": library}
    if library == "dpnp":
        # The wheel of Intel's OpenCL for the CPU does not announce itself.
        found = [str(path) for path in Path(session.virtualenv.location).rglob("libintelocl.so")]
        variables["OCL_ICD_FILENAMES"] = ":".join(found)
    tests = sorted(str(path) for name in CONTRACT for path in Path("tests").rglob(name))
    session.run("pytest", *PARALLEL, *tests, *session.posargs, env=variables)


@nox.session(python=PYTHONS[0])
def minimums(session: nox.Session) -> None:
    """Test on the oldest Python with the oldest supported version of every dependency."""
    oldest = [bound.replace(">=", "==") for bound in PROJECT["project"]["dependencies"]]
    session.install("-e", ".[demo]", *oldest, *group("test"))
    _, variables = backends("numpy")
    session.run("pytest", *PARALLEL, *session.posargs, env=variables)


@nox.session
@nox.parametrize("backend", ["numpy", "all"], ids=["numpy", "all"])
def doctest(session: nox.Session, backend: str) -> None:
    """Run the examples of docstrings, README and docs; "all": those for other libraries too."""
    needed, variables = backends(backend)
    session.install("-e", ".", *group("test"), *needed)
    session.run("pytest", *DOCTEST, *EXAMPLES, *session.posargs, env=variables)


@nox.session(python=FULL)
def gpu_source(session: nox.Session) -> None:
    """Compile the kernels of the GPU engine, and run them on the CPU; no GPU is needed."""
    session.install("-e", ".", *group("gpu_source"))
    _, variables = backends("numpy")
    tests = sorted(str(path) for path in Path("tests/engines").glob("test_gpu_*.py"))
    session.run("pytest", *PARALLEL, *tests, *session.posargs, env=variables)


@nox.session(python=FULL)
def gpu(session: nox.Session) -> None:
    """Test on a GPU, on CuPy arrays and torch CUDA tensors (CUDA 12)."""
    session.install("-e", ".[demo]", "cupy-cuda12x[ctk]", *group("test"), TORCH)
    variables = {"ARRAYOPTIM_TEST_BACKENDS": "cupy,torch_cuda"}
    session.run("pytest", *session.posargs, env=variables)


@nox.session(python=FULL)
def coverage(session: nox.Session) -> None:
    """Test on all backends, say which lines no test ran, fail under 95 percent."""
    check(session, "all", "--cov", "--cov-report=term-missing:skip-covered")


@nox.session(python=FULL)
def peers(session: nox.Session) -> None:
    """Record anew what other packages compute, into ``tests/golden_peers``; and the parity."""
    packages = ["jax", "keras", "numpy", "optax", "pytorch_optimizer", "schedulefree"]
    session.install("-e", ".", TORCH, *packages, "dog-optimizer", "prodigyopt", "timm")
    env = {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}
    for script in sorted(Path("tests/golden_peers").glob("*.py")):
        session.run("python", str(script), env=env)


@nox.session
def demo(session: nox.Session) -> None:
    """Train on handwritten digits, stop half-way, go on elsewhere (options: ``-- --help``)."""
    session.install("-e", ".[demo]")
    session.run("python", "-m", "arrayoptim", "demo", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into ``docs/_build``; a warning is an error."""
    session.install("-e", ".", *group("docs"))
    # A page that is not read again loses its index entries in what the search looks through.
    options = ["-W", "--keep-going", "--fresh-env"]
    session.run("sphinx-build", *options, "docs", "docs/_build", *session.posargs)


@nox.session(python=FULL)
def notebooks(session: nox.Session) -> None:
    """Run the programs of the gallery as notebooks, those for other libraries too."""
    needed, variables = backends("all")
    session.install("-e", ".", *group("notebooks"), *needed)
    session.run("pytest", "tests/project/test_notebooks.py", *session.posargs, env=variables)


@nox.session(python=FULL)
def race(session: nox.Session) -> None:
    """Time a step of this library and of every peer that installs (options: ``-- --help``)."""
    session.install(".[demo]", TORCH, "ninja", "setuptools")
    # DeepSpeed's own build imports torch. What does not install here is left out of the race.
    for peer in [["jax", "optax"], ["keras"], ["thinc"], ["--no-build-isolation", "deepspeed"]]:
        session.install(*peer, success_codes=[0, 1])
    cache = Path(session.create_tmp()).resolve()
    env = {
        "PYTHONPATH": "asv_benchmarks",
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "TORCH_EXTENSIONS_DIR": str(cache / "torch"),
    }
    session.run("python", "-m", "race", *session.posargs, env=env)


@nox.session
def bench(session: nox.Session) -> None:
    """Time a step of every optimizer, each benchmark once (``-- --bench NAME`` for some).

    ``-- --html`` measures properly, and writes a report into ``asv_benchmarks/.asv/html``;
    ``-- --compare HEAD~1`` measures that commit and this one, and fails where one is slower.
    """
    session.install("-e", ".", *group("bench"))
    options = list(session.posargs)
    head = session.run("git", "rev-parse", "HEAD", external=True, silent=True, log=False)
    session.chdir("asv_benchmarks")
    session.run("asv", "machine", "--yes", silent=True)
    if "--compare" in options:
        at = options.index("--compare")
        base = options[at + 1]
        session.run("asv", "continuous", "--show-stderr", base, "HEAD", *options[at + 2 :])
        return
    html = "--html" in options
    how = [f"--set-commit-hash={head.strip()}"] if html else ["--quick"]
    chosen = [option for option in options if option != "--html"]
    session.run("asv", "run", "--python=same", "--show-stderr", *how, *chosen)
    if html:
        session.run("asv", "publish")
        session.log("asv_benchmarks/.asv/html/index.html; `asv preview` serves it")


@nox.session(python=FULL)
def mutants(session: nox.Session) -> None:
    """Break lines of the engines one by one: tests must fail (``-- --count 40 --seed 0``)."""
    session.install("-e", ".", *group("test"), *group("gpu_source"))
    env = {"PYTHONPATH": "tests"}
    session.run("python", "-m", "mutation", *session.posargs, env=env)


@nox.session
def torture(session: nox.Session) -> None:
    """Kill saves, damage files and configurations, interrupt steps (``-- --help`` for counts).

    It takes hours; the counts of ``docs/benchmarks/torture.md`` took a fraction of one.
    """
    session.install("-e", ".", *group("test"))
    options = session.posargs or ["--table", "docs/benchmarks/torture.md"]
    session.run("python", "-m", "torture", *options, env={"PYTHONPATH": "tests"})
