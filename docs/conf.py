import sys
import urllib.request
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
    "sphinx.ext.intersphinx",
    "myst_parser",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "optimizer_pages",
    "shelves",
]
default_role = "autolink"
autodoc_typehints = "none"
autosummary_generate = False
numpydoc_show_class_members = False
myst_heading_anchors = 2
# The table of parity is part of a page.
exclude_patterns = ["_build", "examples", "parity_table.rst"]
autodoc_mock_imports = [
    "jax",
    "keras",
    "mpi4py",
    "optax",
    "torch",
]  # pages build where these are not installed
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r"[a-z_0-9]+"),  # parameters, in docstrings
    (r"py:.*", r"(jax|keras|numpy|optax|scipy|torch)\..*"),  # where their inventories are missing
]
rst_prolog = ".. currentmodule:: arrayoptim"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_theme = "furo"
html_title = f"arrayoptim {release}"
html_theme_options = {"navigation_with_keys": True}

# The other libraries' own pages, as far as a network reaches them: without one, names of theirs
# stand there without a link, and the build goes on.
INVENTORIES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "jax": "https://docs.jax.dev/en/latest/",
    "optax": "https://optax.readthedocs.io/en/latest/",
}


def reached(address: str) -> bool:
    """Return whether an inventory can be read."""
    try:
        with urllib.request.urlopen(f"{address}objects.inv", timeout=5):
            return True
    except OSError:
        return False


intersphinx_mapping = {name: (url, None) for name, url in INVENTORIES.items() if reached(url)}

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    # Those that need NumPy alone run when the pages are built; the tests run the others too.
    "filename_pattern": r"(plot_|numpy_training|minimize_rosenbrock)",
    "ignore_pattern": r"(laprop|fsdp_training|jax_hosts_training|mpi_training)\.py",
    "within_subsection_order": "gallery_order.PicturesFirst",
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("arrayoptim",),
    "default_thumb_file": str(Path(__file__).parent / "examples" / "program.svg"),
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
    "image_scrapers": ("matplotlib",),
    "compress_images": (),
}
