"""The set-up for `make site`: `.venv-site`, which has Sphinx on top of `.venv`.

.venv/bin/python -m toolkit.bootstrap_site
"""

import sys

from toolkit.bootstrap_layer import set_up_or_say_why

if __name__ == "__main__":
    sys.exit(set_up_or_say_why(".venv-site", "toolkit/commands/site/requirements.txt", "Sphinx (260 MB on the disk)"))
