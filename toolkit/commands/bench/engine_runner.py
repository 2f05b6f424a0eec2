"""The one interface behind which all sides are measured, and the models that ours and transformers share."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from transformers import PreTrainedModel

from toolkit.commands.bench.cases import Case
from toolkit.commands.bench.measured import Activity, Run
from toolkit.errors import UserError
from toolkit.garbage import release_memory
from toolkit.models import load_model

NAMES = (
    "ours-sync",
    "ours-async",
    "ours-sync-compiled",
    "ours-async-compiled",
    "transformers-sync",
    "transformers-async",
    "transformers-async-compiled",
    "vllm-sync",
    "vllm-async",
    "vllm-sync-split",
    "vllm-async-split",
)


@dataclass(frozen=True)
class EngineSpec:
    """Who takes part: one side, in one mode, compiled or not.

    vLLM always compiles. Its engine core runs in the process that calls it, or, split, in a second one.
    """

    engine: str
    mode: str
    compiled: bool
    processes: int = 1

    @classmethod
    def named(cls, name: str) -> "EngineSpec":
        """From a name such as "ours-async-compiled". Raises UserError for others than NAMES."""
        if name not in NAMES:
            raise UserError(f"there is no engine {name!r}; there are {', '.join(NAMES)}")
        engine, mode, *rest = name.split("-")
        return cls(engine, mode, engine == "vllm" or "compiled" in rest, 1 + ("split" in rest))

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "EngineSpec":
        """Whose row of a recording it is. Rows from before vLLM took part do not say that they are of one process."""
        return cls(row["engine"], row["mode"], row["compiled"], row.get("processes", 1))

    @property
    def asynchronous(self) -> bool:
        return self.mode == "async"

    def __str__(self) -> str:
        compiled = self.compiled and self.engine != "vllm"
        return f"{self.engine}-{self.mode}" + "-compiled" * compiled + "-split" * (self.processes == 2)


class NotHere(Exception):
    """This engine cannot run on this machine at all, which is no failure of its own."""


class EngineRunner(Protocol):
    """An engine that is measured.

    Attributes:
        attention: names its kernel, once it was prepared.
        details: what its rows say besides, such as its version and options.
    """

    who: EngineSpec
    attention: str
    details: dict[str, str]

    def prepare(self, case: Case) -> None:
        """Build what is missing and warm up, so that nothing is captured or compiled in a timed run."""

    def run(self, case: Case) -> Run:
        """Serve the case once."""

    def activity(self, case: Case) -> Activity:
        """How busy the GPU is, measured in a short run of its own."""

    def close(self) -> None:
        """Give back the memory."""


@dataclass
class Models:
    """The models of a comparison, each loaded at its first use.

    Random weights of a named shape come from a fixed seed, so a second copy has the same. One is left as the library
    made it; the other may be changed (merged projections, compiled parts) by the engines that ask for that.
    """

    device: str
    loaded: dict[tuple[str, bool], PreTrainedModel] = field(default_factory=dict)

    def get(self, name: str, *, changed: bool) -> PreTrainedModel:
        key = (name, changed)
        if key not in self.loaded:
            model = load_model(name, device=self.device).model
            if changed:
                from toolkit.models.merge import merge_projections

                merge_projections(model)
            self.loaded[key] = model
        return self.loaded[key]

    def release(self) -> None:
        self.loaded.clear()
        release_memory()
