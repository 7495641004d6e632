"""What SLURM's commands print on clusters of several versions, shortened to their usual shape."""

from collections.abc import Iterable

NO_ACCOUNTING = "AccountingStorageType   = accounting_storage/none"
SLURMDBD = "AccountingStorageType   = accounting_storage/slurmdbd"


def config(accounting: str = NO_ACCOUNTING, select: str = "cons_tres", age: str = "300 sec") -> str:
    """`scontrol show config`."""
    return (
        "Configuration data as of 2026-01-31T23:59:59\nAccountingStorageBackupHost = (null)\n"
        f"{accounting}\nAuthInfo                = (null)\nMinJobAge               = {age}\n"
        f"SelectType              = select/{select}\nSelectTypeParameters    = CR_CORE_MEMORY\n\n"
        "Slurmctld(primary) at head is UP\n"
    )


def node(
    name: str,
    partitions: str,
    *,
    cores: int = 64,
    memory: int = 257000,
    gres: str = "(null)",
    state: str = "IDLE",
    rest: str = "",
) -> str:
    """A line of `scontrol show node --oneliner`, as of 22.05."""
    return (
        f"NodeName={name} Arch=x86_64 CoresPerSocket={cores // 2} CPUAlloc=0 CPUEfctv={cores} "
        f"CPUTot={cores} CPULoad=0.02 AvailableFeatures=rome,ib ActiveFeatures=rome,ib Gres={gres} "
        f"NodeAddr={name} NodeHostName={name} Version=22.05.8 "
        "OS=Linux 5.10.0-28-amd64 #1 SMP Debian 5.10.209-2 (2024-01-31)  "
        f"RealMemory={memory} AllocMem=0 FreeMem=250000 Sockets=2 Boards=1 State={state} "
        f"ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A Partitions={partitions}  "
        f"BootTime=2026-01-01T00:00:00 CfgTRES=cpu={cores},mem={memory}M,billing={cores} "
        f"AllocTRES= CapWatts=n/a {rest}"
    )


def partition(name: str, *, limit: str = "UNLIMITED", default: str = "NO", **changes: str) -> str:
    """A line of `scontrol show partition --oneliner`, as of 22.05."""
    keys = {
        "AllowGroups": "ALL",
        "AllowAccounts": "ALL",
        "AllowQos": "ALL",
        "AllocNodes": "ALL",
        "Default": default,
        "QoS": "N/A",
        "DefaultTime": "NONE",
        "MaxNodes": "UNLIMITED",
        "MaxTime": limit,
        "MaxCPUsPerNode": "UNLIMITED",
        "RootOnly": "NO",
        "State": "UP",
        "DefMemPerNode": "UNLIMITED",
        "MaxMemPerNode": "UNLIMITED",
    } | changes
    return " ".join([f"PartitionName={name}", *(f"{k}={v}" for k, v in keys.items())])


def answers(
    partitions: Iterable[str], nodes: Iterable[str], *, version: str = "slurm 22.05.8", **more: str
) -> dict[str, str]:
    """What all commands print, by name."""
    found = {"version": f"{version}\n", "config": config(), **more}
    return found | {"partitions": "\n".join(partitions) + "\n", "nodes": "\n".join(nodes) + "\n"}


def cpus_only() -> dict[str, str]:
    """Two partitions, the default one short; one node is down, one drained."""
    return answers(
        [partition("debug", default="YES", limit="00:30:00"), partition("long-run")],
        [
            node("c1", "debug,long-run"),
            node("c2", "long-run"),
            node("c3", "long-run", cores=128, state="DOWN*", rest="Reason=State=IDLE [root@x]"),
            node("c4", "long-run", cores=128, state="IDLE+DRAIN"),
        ],
    )


def typed_20_11() -> dict[str, str]:
    """A site of version 20.11, without `CPUEfctv`, whose GPU nodes have two V100 each."""
    gpus = (
        node(f"g{i}", "gpu.q", cores=40, memory=192000, gres="gpu:v100:2(S:0-1)").replace(
            "CPUEfctv=40 ", ""
        )
        for i in (1, 2, 3)
    )
    return answers(
        [partition("batch", default="YES", limit="7-00:00:00"), partition("gpu.q")],
        [node("c1", "batch"), *gpus],
        version="slurm 20.11.9",
    )


def two_types_23_11() -> dict[str, str]:
    """Accounting, two types of GPU in three partitions, accounts and QOS, slices of a GPU."""
    a100 = "gpu:a100:4(S:0-1),shard:a100:16(S:0,1)"
    return answers(
        [
            partition("cpu", default="YES", limit="3-00:00:00", MaxMemPerCPU="4000"),
            partition("t4", limit="UNLIMITED"),
            partition(
                "a100", limit="12:00:00", AllowAccounts="ml,bio", AllowQos="gpu", QoS="gpu-part"
            ),
            partition("mig", limit="1-00:00:00"),
            partition("ops", State="DOWN"),
            partition("private", AllowGroups="physics"),
        ],
        [
            *(node(f"c{i}", "cpu,ops,private", rest="Comment=(null)") for i in range(4)),
            *(node(f"t{i}", "t4", gres="gpu:t4:8(IDX:0-7)") for i in range(9)),
            *(node(f"a{i}", "a100", cores=128, memory=1031000, gres=a100) for i in range(2)),
            node("m0", "mig", gres="gpu:a100_1g.10gb:14,gpu:a100_3g.40gb:4"),
        ],
        version="slurm 23.11.4",
        config=config(SLURMDBD),
        answer="",
        associations="old|old||normal|normal\nold|ml||normal,gpu|normal\n",
        qos="normal|\ngpu|08:00:00\ngpu-part|2-00:00:00\n",
    )


def untyped_24_05() -> dict[str, str]:
    """One untyped GPU on each node, which sleep; nobody has configured memory."""
    nodes = (
        node(f"n{i}", "gpu", memory=1, gres="gpu:1", state="IDLE+CLOUD+POWERED_DOWN")
        for i in range(5)
    )
    return answers([partition("gpu", default="YES")], nodes, version="slurm 24.05.3")
