import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import arrayoptim as ao

project = "arrayoptim"
author = "The arrayoptim developers"
copyright = f"2026, {author}"
release = ao.__version__

extensions = [
    "sphinx_copybutton",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "myst_parser",
    "numpydoc",
    "optimizer_pages",
]
default_role = "autolink"
autodoc_typehints = "none"
autosummary_generate = False
numpydoc_show_class_members = False
myst_heading_anchors = 2
exclude_patterns = ["_build"]
autodoc_mock_imports = [
    "jax",
    "keras",
    "mpi4py",
    "optax",
    "torch",
]  # pages build where these are not installed
nitpicky = True
nitpick_ignore_regex = [("py:obj", r"[a-z_0-9]+")]  # parameters, in docstrings
rst_prolog = ".. currentmodule:: arrayoptim"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
html_theme = "furo"
html_title = f"arrayoptim {release}"
