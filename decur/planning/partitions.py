"""Choose the partition and the GPUs of each class of jobs on a cluster."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from decur.planning.site import Node, Partition, Site, is_slice

FAST = (
    *("b300", "b200", "h200", "gh200", "h100", "h800", "mi300", "a100", "a800", "mi250"),
    *("l40", "a40", "a6000", "v100"),
)
"""Name parts of GPUs that train fast, the fastest first. All others come after these."""

DAY = 1440


@dataclass(frozen=True)
class Place:
    """A partition, and a job's limits on each of its nodes; None means unlimited or unknown.

    `account` and `qos` are None if the user's defaults are sufficient.
    """

    partition: str
    cores: int
    memory_mb: int | None
    minutes: int | None
    account: str | None = None
    qos: str | None = None


@dataclass(frozen=True)
class Gpus:
    """GPUs of one type ("" for no type): `each` per node on `nodes` nodes."""

    place: Place
    kind: str
    nodes: int
    each: int


def choose_cpus(site: Site) -> Place:
    """Choose the partition for jobs that need no GPU.

    Order of preference: without GPUs, for long jobs, the default, the largest.
    """

    def order(partition: Partition) -> tuple[bool, bool, bool, int]:
        with_gpus = any(node.gpus for node in partition.nodes)
        nodes = len(partition.nodes)
        return not with_gpus, _is_long(partition), partition.is_default, nodes

    partition = max(site.partitions, key=order)
    return _place(site, partition, partition.nodes, 1)


def choose_gpus(site: Site, wanted: int) -> Gpus | None:
    """Choose `wanted` GPUs, or half as many while no partition has that number.

    The number of GPUs matters most, then their type, then a small number of nodes.
    """
    found = []
    for partition in site.partitions:
        for kind in sorted({kind for node in partition.nodes for kind in node.gpus}):
            total, nodes, each = _layout(partition, kind, wanted)
            order = (
                *(not is_slice(kind), total, -_rank(kind), -nodes),
                *(_is_long(partition), partition.is_default, len(partition.nodes)),
            )
            found.append((order, partition, kind, nodes, each))
    if not found:
        return None
    _, partition, kind, nodes, each = max(found, key=lambda entry: entry[0])
    able = [node for node in partition.nodes if node.gpus.get(kind, 0) >= each]
    return Gpus(_place(site, partition, able, nodes), kind, nodes, each)


def _layout(partition: Partition, kind: str, wanted: int) -> tuple[int, int, int]:
    """Return total GPUs, nodes, and GPUs per node. Slices of GPUs cannot be combined."""
    total = 1 if is_slice(kind) else wanted
    counts = [node.gpus.get(kind, 0) for node in partition.nodes]
    while total > 1:
        for nodes in range(1, min(total, partition.max_nodes or total) + 1):
            each, rest = divmod(total, nodes)
            if not rest and sum(count >= each for count in counts) >= nodes:
                return total, nodes, each
        total //= 2
    return 1, 1, 1


def _rank(kind: str) -> int:
    return next((i for i, name in enumerate(FAST) if name in kind.lower()), len(FAST))


def _is_long(partition: Partition) -> bool:
    """Check whether a job may run for a day."""
    return partition.minutes is None or partition.minutes >= DAY


def _place(site: Site, partition: Partition, nodes: Sequence[Node], count: int) -> Place:
    """Return the limits of a job on `count` nodes.

    They are those of the most common kind of node, so that a job can run on many nodes.
    """
    sizes = Counter((node.cores, node.memory_mb or 0) for node in nodes)
    (cores, memory), same = max(sizes.items(), key=lambda item: (item[1], item[0]))
    if same < count:
        cores, memory = (min(values) for values in zip(*sizes, strict=True))
    cores = min(cores, partition.cores or cores)
    per_core = partition.memory_mb_per_core
    limits = (memory, partition.memory_mb, None if per_core is None else per_core * cores)
    account = _allowed(site.user.accounts, partition.accounts)
    qos = _allowed(site.user.qos, partition.qos)
    effective = qos or next(iter(site.user.qos), None)
    walls = (site.walls.get(name) for name in (effective, partition.own_qos) if name)
    return Place(
        partition.name,
        cores,
        memory_mb=min(limit for limit in limits if limit is not None) if memory else None,
        minutes=min((m for m in (partition.minutes, *walls) if m is not None), default=None),
        account=account or next(iter(site.user.accounts), None),
        qos=qos,
    )


def _allowed(own: Sequence[str], allowed: frozenset[str] | None) -> str | None:
    """Return the user's first name that a partition allows, if it refuses the default name."""
    if allowed is None or not own or own[0] in allowed:
        return None
    return next((name for name in own if name in allowed), None)
