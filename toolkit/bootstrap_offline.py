"""The set-up without a network, from the wheels that `make wheelhouse` has put into a folder.

python3 toolkit/bootstrap_offline.py /media/stick/wheels
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toolkit.bootstrap import REPOSITORY, SetUpError, exit_code, set_up, venv_python  # noqa: E402


def set_up_from(arguments: list[str]) -> None:
    """The same as bootstrap.py; and the default model is kept, while the wheels are at hand."""
    if len(arguments) != 1:
        raise SetUpError("name the folder wheels that make wheelhouse filled, and nothing else")
    folder = Path(arguments[0])
    if not any(folder.glob("*.whl")):
        raise SetUpError(f"{folder}: no wheels are there; name the folder wheels that make wheelhouse filled")
    os.environ.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder.absolute()))  # for pip in all processes from here on
    set_up(REPOSITORY)
    code = "from toolkit.models.default import default_model_folder; default_model_folder()"
    if subprocess.run([venv_python(REPOSITORY / ".venv"), "-c", code], cwd=REPOSITORY).returncode != 0:
        raise SetUpError("the packages are installed; the default model is not, see above (MODEL=tiny needs none)")


if __name__ == "__main__":
    sys.exit(exit_code(lambda: set_up_from(sys.argv[1:])))
