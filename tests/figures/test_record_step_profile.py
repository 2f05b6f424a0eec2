"""What toolkit/models/fused.py and the code around it say of the committed recordings of a decode step."""

from collections import defaultdict

from toolkit.models.shapes import SHAPES
from toolkit.recordings import DATA, read_recording

FUSED = {"query_key_value_kernel": 1, "decode_kernel": 1, "add_kernel": 2, "gate_up_kernel": 1}


def rows_of(name):
    found = [row for path in DATA.glob(f"*/{name}.json") for row in read_recording(path)["rows"]]
    assert found
    return found


def test_fused_layers_are_quicker():
    """At every context of 32 rows; and nothing changes for more rows than the fused layers take."""
    ms = {(row["model"], row["rows"], row["context"], row["form"]): row["ms"] for row in rows_of("step_times")}
    for (model, rows, context, form), value in ms.items():
        if form == "compiled":
            share = ms[model, rows, context, "fused"] / value
            assert share < 1 if rows == 32 else abs(share - 1) < 0.01, f"{model}, {rows} rows, {context}: {share:.3f}"


def test_five_kernels_a_layer():
    counts = defaultdict(dict)
    for row in rows_of("step_profile"):
        if row["form"] == "fused" and row["rows"] == 32:
            counts[row["model"]][row["kernel"]] = row["count"]
    assert set(counts) == {"8b", "1b", "135m"}
    for model, mine in counts.items():
        layers = SHAPES[model].num_hidden_layers
        for kernel, each in FUSED.items():
            assert mine[kernel] == each * layers, f"{model}: {mine[kernel]} of {kernel} in {layers} layers"
        assert sum(mine.values()) < 5 * layers + 15, f"{model}: {sum(mine.values())} kernels in all"
