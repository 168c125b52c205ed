"""Configure Sphinx for the documentation: MyST for Markdown, Furo for the look."""

from __future__ import annotations

from bake import __version__

project = "bake"
author = "the bake developers"
copyright = author
version = release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
root_doc = "index"
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
# Links to headings, as in page.md#heading; a missing one is a warning.
myst_heading_anchors = 4
# GitHub's plain-text highlighting: `console` blocks hold commands and their output.
highlight_language = "text"

html_theme = "furo"
html_title = "bake"
html_static_path = ["_static"]
html_css_files = ["bake.css"]
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
