"""Sphinx's settings. The repository itself is the source folder, so that links hold there and on the site alike."""

project = "Asynchronous LLM inference, step by step"
language = "en"
html_title = project

extensions = [
    "myst_nb",
    "toolkit.commands.site.contents",
    "toolkit.commands.site.pictures",
    "toolkit.commands.site.sources",
]
root_doc = "README"
include_patterns = ["README.md", "docs/*.md", "toolkit/simgpu/README.md", "chapters/*/lesson.ipynb"]
exclude_patterns = [".*", "build", "my"]  # not even looked into

nb_execution_mode = "off"  # outputs are those that are committed
nb_code_prompt_show = "Show what comes out"
nb_code_prompt_hide = "Hide what comes out"
myst_heading_anchors = 4
highlight_language = "text"

html_theme = "furo"
html_static_path = ["site.css", "site.js"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_use_index = False
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
