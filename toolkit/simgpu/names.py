"""Names of memory in reports: "input_ids of the buffers of batch 3" says more than "(96,) int64 buffer".

A name belongs to the bytes of the tensor that was named, until it is freed: views of it have it too. What it belongs to
(its owner, such as a batch) may change while it stays the same memory.
"""

from collections.abc import Sequence

from toolkit.simgpu.blocks import Footprint

MOST_NAMES = 3  # of one owner are spelled out in a list


def name_of(footprint: Footprint) -> str:
    """The name of what was named most narrowly around the footprint, else of what was named inside it, or ""."""
    if footprint.freed:
        return ""
    named = footprint.block.names.values()
    around = [(region.nbytes, name) for region, name in named if region.covers(footprint.region)]
    if around:
        return min(around)[1]
    inside = [name for region, name in named if region.overlaps(footprint.region)]
    return " and ".join(inside) if len(inside) < 3 else f"{inside[0]}, {inside[1]} and {len(inside) - 2} more"


def label(footprint: Footprint) -> str:
    """A tensor in words, with its article: "input_ids of the buffers of batch 3", or "a (96,) int64 buffer"."""
    name, owner = name_of(footprint), footprint.block.owner
    if not name:
        return f"a {footprint.description} buffer"
    return f"{name} of {owner}" if owner else name


def shared_name(first: Footprint, second: Footprint, owner_then: str) -> str:
    """What two operations on the same bytes share: named by the narrower of the two, with its shape, dtype and place.

    Args:
        owner_then: the owner when the first of the two was issued.
    """
    named = [each for each in (first, second) if name_of(each)]
    if not named:
        return f"{second.description} buffer ({second.block.kind})"
    narrow = min(named, key=lambda each: each.region.nbytes)
    owner = narrow.block.owner
    changed = f", in use for {owner_then} when the first was queued" if owner_then and owner_then != owner else ""
    return f"{label(narrow)}{changed} ({narrow.description}, {narrow.block.kind})"


def in_words(footprints: Sequence[Footprint]) -> str:
    """Some tensors: "pinned input_ids, position_ids, slot_mapping and 8 more of the buffers of batch 3; ..."."""
    by_owner: dict[tuple[str, str], list[str]] = {}
    for each in footprints:
        named = each.block.names.get(each.region.key) if not each.freed else None
        name = named[1] if named else name_of(each)
        group = (
            "pinned " * (each.block.kind == "pinned"),
            f" of {each.block.owner}" if name and each.block.owner else "",
        )
        by_owner.setdefault(group, []).append(name or each.description)
    return "; ".join(kind + _listed(names) + owner for (kind, owner), names in by_owner.items())


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MOST_NAMES])} and {more} more"
