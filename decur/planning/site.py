"""Query SLURM for the cluster's partitions, nodes, GPUs and accounting, and the user's accounts.

`parse` turns the output of SLURM's commands into a `Site`; `ask_site` runs the commands.
"""

import grp
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from decur.cluster.lock import user_name
from decur.cluster.slurm import ask
from decur.errors import DecurError

COMMANDS = {
    "version": ("sinfo", "--version"),
    "config": ("scontrol", "show", "config"),
    "partitions": ("scontrol", "show", "partition", "--oneliner"),
    "nodes": ("scontrol", "show", "node", "--oneliner"),
}
"""Commands that work on every cluster."""

ACCOUNTING = {
    "answer": ("sacct", "--noheader", "--jobs=0"),
    "associations": (
        *("sacctmgr", "--noheader", "--parsable2", "show", "user", "{user}", "withassoc"),
        "format=DefaultAccount,Account,Partition,QOS,DefaultQOS",
    ),
    "qos": ("sacctmgr", "--noheader", "--parsable2", "show", "qos", "format=Name,MaxWall"),
}
"""Commands that work only on a cluster with accounting."""

UNUSABLE = {"DOWN", "DRAIN", "DRAINED", "ERROR", "FAIL", "FUTURE", "NOT_RESPONDING", "UNKNOWN"}
"""States of nodes that accept no jobs. Sleeping nodes (`IDLE+CLOUD+POWERED_DOWN`) accept jobs."""

MIG = re.compile(r"\d+g\.\d+gb", re.IGNORECASE)
"""Pattern in the type names of slices of a GPU."""

UNLIMITED = ("", "UNLIMITED", "INFINITE", "NONE", "N/A", "(NULL)", "NOT_SET")
UNKNOWN_MEMORY = (0, 1)
"""`RealMemory` of nodes without configured memory; 1 is the default of SLURM."""


@dataclass(frozen=True)
class Node:
    """A node that accepts jobs; `memory_mb` is None if unknown, `gpus` are counts by type."""

    name: str
    cores: int
    memory_mb: int | None
    gpus: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Partition:
    """A partition that the user may use, with its limits per job; None means unlimited."""

    name: str
    nodes: tuple[Node, ...]
    is_default: bool = False
    minutes: int | None = None
    max_nodes: int | None = None
    cores: int | None = None
    memory_mb: int | None = None
    memory_mb_per_core: int | None = None
    accounts: frozenset[str] | None = None
    qos: frozenset[str] | None = None
    own_qos: str | None = None


@dataclass(frozen=True)
class User:
    """The user's accounts and QOS, each with the default first; empty without accounting."""

    accounts: tuple[str, ...] = ()
    qos: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """The properties of a cluster that a profile needs.

    Attributes:
        version: the version of SLURM.
        partitions: those that the user may use and whose nodes accept jobs.
        accounting: whether SLURM has accounting of jobs (`sacct` works).
        min_job_age: seconds that SLURM remembers ended jobs.
        whole_nodes: whether SLURM allocates only whole nodes, and refuses `--gpus`.
        user: accounts and QOS.
        walls: time limits by QOS, in minutes.
    """

    version: str
    partitions: tuple[Partition, ...]
    accounting: bool = False
    min_job_age: int | None = None
    whole_nodes: bool = False
    user: User = field(default_factory=User)
    walls: Mapping[str, int] = field(default_factory=dict)


def ask_site() -> Site:
    """Query SLURM about this cluster.

    Raises:
        DecurError: SLURM is missing or does not answer.
    """
    try:
        answers = {name: ask(*command) for name, command in COMMANDS.items()}
    except DecurError as error:
        raise DecurError(
            f"SLURM does not answer ({error}); run this on a login node of the cluster"
        ) from None
    user = user_name()
    for name, command in ACCOUNTING.items():
        with suppress(DecurError):  # a site without accounting
            answers[name] = ask(*(word.format(user=user) for word in command))
    return parse(answers, _groups())


def parse(answers: Mapping[str, str], groups: frozenset[str] = frozenset()) -> Site:
    """Parse the output of `COMMANDS` and `ACCOUNTING` into a site.

    Args:
        answers: output by name of the command; commands that failed are missing.
        groups: names of the user's groups, which partitions may require.

    Raises:
        DecurError: the user may not use any partition.
    """
    config = _config(answers["config"])
    kept = "slurmdbd" in config.get("AccountingStorageType", "") and "answer" in answers
    user = _user(answers.get("associations", "")) if kept else User()
    nodes = [*_lines(answers["nodes"])]
    partitions = [
        _partition(line, nodes)
        for line in _lines(answers["partitions"])
        if _is_open(line, groups, user)
    ]
    usable = tuple(partition for partition in partitions if partition.nodes)
    if not usable:
        raise DecurError(
            "SLURM has no partition that you may use and whose nodes accept jobs; see `sinfo` "
            "and `scontrol show partition`, or ask the operators of the cluster"
        )
    return Site(
        version=" ".join(answers["version"].split()),
        partitions=usable,
        accounting=kept,
        min_job_age=_number(config.get("MinJobAge", "").split(" ")[0]),
        whole_nodes=config.get("SelectType", "").endswith("/linear"),
        user=user,
        walls=_walls(answers.get("qos", "")) if kept else {},
    )


def minutes(text: str) -> int | None:
    """Parse a time limit (`d-hh:mm:ss`, `hh:mm:ss`, `mm:ss`, `mm`) to minutes; None: unlimited."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if found is None:  # UNLIMITED, infinite, NONE ...
        return None
    days, *parts = found.groups()
    first, *rest = [int(part) for part in parts if part is not None]
    if days is None and len(rest) < 2:  # mm:ss or mm
        return first
    return (int(days or 0) * 24 + first) * 60 + (rest[0] if rest else 0)


def gpus(gres: str) -> dict[str, int]:
    """Count GPUs by type in a node's `Gres`, such as `gpu:a100:4(S:0-1),shard:8`; "" is no type."""
    found: dict[str, int] = {}
    for entry in re.sub(r"\([^)]*\)", "", gres).split(","):
        name, *rest = [part for part in entry.strip().split(":") if part != "no_consume"]
        if name != "gpu":
            continue
        count = int(rest.pop()) if rest and rest[-1].isdecimal() else 1
        kind = rest[0] if rest else ""
        found[kind] = found.get(kind, 0) + count
    return {kind: count for kind, count in found.items() if count}


def is_slice(kind: str) -> bool:
    """Check whether a type is a slice of a GPU (MIG), which cannot be combined with others."""
    return MIG.search(kind) is not None


def _groups() -> frozenset[str]:
    names = set()
    for number in os.getgroups():
        with suppress(KeyError):  # a group without a name
            names.add(grp.getgrgid(number).gr_name)
    return frozenset(names)


def _lines(text: str) -> Iterator[dict[str, str]]:
    """Split each line into its `Key=value` pairs.

    If a key is repeated, its first value counts, since the operator's free text comes last.
    """
    for line in text.splitlines():
        pairs: dict[str, str] = {}
        parts = re.split(r"(?:^|\s+)([A-Za-z][\w/:]*)=", line)
        for key, value in zip(parts[1::2], parts[2::2], strict=True):
            pairs.setdefault(key, value.strip())
        if pairs:
            yield pairs


def _config(text: str) -> dict[str, str]:
    found = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip() for key, equals, value in found if equals}


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _names(text: str) -> frozenset[str] | None:
    """Parse a list of names; None if all are allowed."""
    if text.upper() in ("ALL", *UNLIMITED):
        return None
    return frozenset(text.split(","))


def _is_open(line: Mapping[str, str], groups: frozenset[str], user: User) -> bool:
    """Check whether a partition accepts jobs of the user."""
    if line.get("State", "UP") != "UP" or line.get("RootOnly", "NO") == "YES":
        return False
    allowed = _names(line.get("AllowGroups", "ALL"))
    if allowed is not None and not allowed & groups:
        return False
    for key, own in (("AllowAccounts", user.accounts), ("AllowQos", user.qos)):
        allowed = _names(line.get(key, "ALL"))
        if allowed is not None and own and not allowed & {*own}:
            return False
    return True


def _takes_jobs(state: str) -> bool:
    """Check a node's state such as `IDLE`, `MIXED+DRAIN` or `DOWN*`; `*` means no response."""
    return not state.endswith("*") and not UNUSABLE & {*state.upper().split("+")}


def _partition(line: Mapping[str, str], nodes: list[dict[str, str]]) -> Partition:
    name = line["PartitionName"]
    own_qos = line.get("QoS", "N/A")
    return Partition(
        name=name,
        nodes=tuple(
            _node(node)
            for node in nodes
            if name in node.get("Partitions", "").split(",")
            and _takes_jobs(node.get("State", "UNKNOWN"))
        ),
        is_default=line.get("Default") == "YES",
        minutes=minutes(line.get("MaxTime", "")),
        max_nodes=_number(line.get("MaxNodes", "")),
        cores=_number(line.get("MaxCPUsPerNode", "")),
        memory_mb=_number(line.get("MaxMemPerNode", "")),
        memory_mb_per_core=_number(line.get("MaxMemPerCPU", "")),
        accounts=_names(line.get("AllowAccounts", "ALL")),
        qos=_names(line.get("AllowQos", "ALL")),
        own_qos=None if own_qos.upper() in UNLIMITED else own_qos,
    )


def _node(line: Mapping[str, str]) -> Node:
    real = _number(line.get("RealMemory", "")) or 0
    kept = _number(line.get("MemSpecLimit", "")) or 0  # reserved for the system
    cores = _number(line.get("CPUEfctv", "")) or _number(line.get("CPUTot", "")) or 1
    memory = None if real in UNKNOWN_MEMORY else real - kept
    return Node(line["NodeName"], cores, memory, gpus(line.get("Gres", "")))


def _user(associations: str) -> User:
    """Parse accounts and QOS from rows `default account|account|partition|QOS, ...|default QOS`."""
    accounts, qos = [], []
    for line in associations.splitlines():
        default, account, _, several, default_qos = (line.strip().split("|") + [""] * 5)[:5]
        accounts += [default, account]
        qos += [default_qos, *several.split(",")]
    return User(*(tuple(dict.fromkeys(filter(None, found))) for found in (accounts, qos)))


def _walls(text: str) -> dict[str, int]:
    rows = (line.strip().partition("|") for line in text.splitlines())
    limits = {name: minutes(wall) for name, _, wall in rows}
    return {name: limit for name, limit in limits.items() if limit is not None}
