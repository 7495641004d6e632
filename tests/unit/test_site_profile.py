"""The profile that is written for a cluster: what SLURM prints, and what is asked of it."""

import pytest
import yaml

from decur.cli import main
from decur.errors import DecurError
from decur.planning import site as sites_of
from decur.planning.profile import find_base, make_profile
from decur.planning.site import gpus, minutes, parse
from tests.support import HOME, sites

BASE = (HOME / "profiles" / "slurm" / "config.yaml").read_text()
RETRIES = 2


def written(answers, groups=frozenset()):
    """The profile as a tree, and its notes; every resource as Snakemake evaluates it."""
    text, notes = make_profile(parse(answers, groups), BASE)
    tree = yaml.safe_load(text)
    for block in (tree["default-resources"], *tree["set-resources"].values()):
        for key, value in block.items():
            if key not in ("mpi", "launch", "options", "slurm_extra"):
                several = [eval(str(value), {"attempt": n + 1}) for n in range(RETRIES + 1)]
                block[key] = several if isinstance(several[0], int) else several[0]
    return tree, " ".join(notes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1-00:00:00", 1440),
        ("2-12:30:00", 3630),
        ("12:00:00", 720),
        ("00:30:00", 30),
        ("45:00", 45),
        ("90", 90),
        ("3-12", 5040),
        *((word, None) for word in ("UNLIMITED", "infinite", "NONE", "", "n/a", "(null)")),
    ],
)
def test_time_limits(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("(null)", {}),
        ("", {}),
        ("gpu", {"": 1}),
        ("gpu:4", {"": 4}),
        ("gpu:0", {}),
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("gpu:a100", {"a100": 1}),
        ("gpu:a100:4(S:0,2-3),shard:a100:16(S:0)", {"a100": 4}),
        ("gpu:a100:no_consume:2", {"a100": 2}),
        ("gpu:a100_1g.5gb:7,gpu:a100:1", {"a100_1g.5gb": 7, "a100": 1}),
        ("craynetwork:4,gpu:mi250:8", {"mi250": 8}),
        ("gpu:t4:1,gpu:t4:1", {"t4": 2}),
    ],
)
def test_gpus_of_a_node(gres, expected):
    assert gpus(gres) == expected


@pytest.mark.parametrize(
    ("state", "takes_jobs"),
    [
        ("IDLE", True),
        ("MIXED+PLANNED", True),
        ("ALLOCATED", True),
        ("IDLE+CLOUD+POWERED_DOWN", True),
        ("DOWN", False),
        ("IDLE*", False),
        ("DOWN*+DRAIN", False),
        ("MIXED+DRAIN", False),
        ("UNKNOWN+NOT_RESPONDING", False),
    ],
)
def test_nodes_that_take_no_jobs_do_not_count(state, takes_jobs):
    nodes = [sites.node("n1", "all", state=state), sites.node("n2", "all")]
    (found,) = parse(sites.answers([sites.partition("all")], nodes)).partitions
    assert ("n1" in [node.name for node in found.nodes]) == takes_jobs


def test_memory_of_the_system_is_not_for_jobs():
    nodes = [sites.node("n1", "all", memory=1000, rest="CoreSpecCount=1 MemSpecLimit=200")]
    (found,) = parse(sites.answers([sites.partition("all")], nodes)).partitions
    assert found.nodes[0].memory_mb == 800


def test_without_gpus_all_runs_on_the_partition_of_long_jobs():
    tree, notes = written(sites.cpus_only())
    assert tree["default-resources"]["slurm_partition"] == "long-run"
    assert tree["slurm-status-command"] == "squeue" and tree["slurm-no-account"] is True
    for rule in ("pretrain", "transfer", "explain"):
        block = tree["set-resources"][rule]
        assert block["gpu"] == [0] * 3
        assert not block.keys() & {"gpu_model", "gres", "tasks", "tasks_per_gpu", "mpi", "launch"}
    assert "has GPUs" in notes
    assert tree["set-threads"]["preprocess"] == 16


def test_two_gpus_to_a_node_make_two_nodes():
    tree, _ = written(sites.typed_20_11())
    block = tree["set-resources"]["pretrain"]
    assert (block["nodes"], block["tasks"], block["gpu"]) == ([2] * 3, [4] * 3, [4] * 3)
    assert block["gpu_model"] == "v100" and block["slurm_partition"] == "gpu.q"
    assert block["launch"] == "srun --kill-on-bad-exit --ntasks=4 --cpus-per-task=8"
    assert block["mem_mb"] == [192000] * 3
    for rule in ("transfer", "explain"):
        block = tree["set-resources"][rule]
        assert block["gpu"] == [1] * 3 and not block.keys() & {"tasks", "tasks_per_gpu", "mpi"}


def test_two_types_of_gpus_limits_accounts_and_qos():
    tree, notes = written(sites.two_types_23_11())
    assert "slurm-no-account" not in tree and "slurm-status-command" not in tree
    rest, block = tree["default-resources"], tree["set-resources"]["pretrain"]
    assert (rest["slurm_partition"], rest["slurm_account"]) == ("cpu", "old")
    assert "qos" not in rest
    assert (block["slurm_partition"], block["gpu_model"]) == ("a100", "a100")
    assert (block["slurm_account"], block["qos"]) == ("ml", "gpu")
    assert block["nodes"] == [1] * 3 and block["gpu"] == [4] * 3
    assert block["runtime"] == [480] * 3  # of the QOS, which is shorter than the partition's
    assert "pretrain: runtime cut from 1440 to 480 minutes" in notes
    assert tree["set-resources"]["preprocess"]["mem_mb"] == [32000, 64000, 96000]


def test_a_partition_of_a_group_of_the_user_is_open():
    names = {p.name for p in parse(sites.two_types_23_11(), frozenset({"physics"})).partitions}
    assert names == {"cpu", "t4", "a100", "mig", "private"}
    assert "private" not in {p.name for p in parse(sites.two_types_23_11()).partitions}


def test_single_untyped_gpus_make_four_nodes_and_unknown_memory_is_not_asked_for():
    tree, _ = written(sites.untyped_24_05())
    block = tree["set-resources"]["pretrain"]
    assert (block["nodes"], block["tasks"]) == ([4] * 3, [4] * 3)
    assert "gpu_model" not in block
    for block in (tree["default-resources"], *tree["set-resources"].values()):
        assert block["mem_mb"] == [0] * 3


def gpu_site(gres, count=1, **more):
    nodes = [sites.node(f"g{i}", "gpu", cores=12, gres=gres) for i in range(count)]
    return sites.answers([sites.partition("gpu", default="YES")], nodes, **more)


@pytest.mark.parametrize(
    ("gres", "count", "nodes", "tasks"),
    [("gpu:h100:8", 1, 1, 4), ("gpu:3", 1, 1, 2), ("gpu:1", 3, 2, 2), ("gpu:3", 2, 2, 4)],
)
def test_as_many_gpus_as_fit(gres, count, nodes, tasks):
    block = written(gpu_site(gres, count))[0]["set-resources"]["pretrain"]
    assert (block["nodes"][0], block["tasks"][0], block["gpu"][0]) == (nodes, tasks, tasks)


@pytest.mark.parametrize("gres", ["gpu:1", "gpu:a100_1g.10gb:7"])
def test_one_gpu_is_a_job_of_one_task(gres):
    tree, notes = written(gpu_site(gres))
    block = tree["set-resources"]["pretrain"]
    assert block["gpu"] == [1] * 3
    assert not block.keys() & {"tasks", "tasks_per_gpu", "mpi", "launch", "nodes"}
    assert "recompute: view" in notes


def test_cores_are_shared_by_the_ranks_of_a_node():
    tree, _ = written(gpu_site("gpu:a100:4"))
    assert tree["set-threads"]["pretrain"] == 3
    assert "--cpus-per-task=3" in tree["set-resources"]["pretrain"]["launch"]
    assert tree["set-threads"]["transfer"] == 8


def test_a_type_that_the_executor_cannot_name_is_not_asked_for():
    tree, notes = written(gpu_site("gpu:nvidia_a100-sxm4-80gb:4"))
    assert "gpu_model" not in tree["set-resources"]["pretrain"]
    assert "cannot name" in notes


def test_whole_nodes_are_asked_for_by_gres():
    tree, _ = written(gpu_site("gpu:a100:4", config=sites.config(select="linear")))
    block = tree["set-resources"]["pretrain"]
    assert (block["gres"], block["gpu"], block["tasks_per_gpu"]) == ("gpu:a100:4", [0] * 3, [0] * 3)
    assert tree["set-resources"]["transfer"]["gres"] == "gpu:a100:1"


def test_mixed_nodes_are_asked_for_what_most_of_them_have():
    nodes = [sites.node(f"n{i}", "all", cores=8, memory=20000) for i in range(3)]
    nodes.append(sites.node("fat", "all", cores=256, memory=4000000))
    tree, notes = written(sites.answers([sites.partition("all")], nodes))
    assert tree["set-threads"]["preprocess"] == 8
    assert tree["set-resources"]["preprocess"]["mem_mb"] == [20000] * 3
    assert "preprocess: mem_mb cut from 32000 to 20000 MB" in notes


def test_odd_names_pass_through_snakemake_unchanged():
    for name in ("long-run", "max", "1", "gpu.q", "on", "x" * 60):
        tree, _ = written(sites.answers([sites.partition(name)], [sites.node("n1", name)]))
        assert tree["default-resources"]["slurm_partition"] == name


def test_ended_jobs_that_are_soon_forgotten_are_a_note():
    answers = gpu_site("gpu:1", config=sites.config(age="10 sec"))
    assert "MinJobAge" in written(answers)[1]


def test_a_cluster_without_a_usable_partition_is_an_error():
    nodes = [sites.node("n1", "all", state="DOWN")]
    with pytest.raises(DecurError, match="no partition"):
        parse(sites.answers([sites.partition("all")], nodes))


def test_what_does_not_depend_on_the_site_is_the_base():
    tree, base = written(sites.two_types_23_11())[0], yaml.safe_load(BASE)
    for key in base.keys() - {"default-resources", "set-resources", "set-threads"}:
        assert tree[key] == base[key]
    assert tree["set-resources"].keys() == base["set-resources"].keys()
    assert tree["set-resources"]["pretrain"]["slurm_extra"] == "'--signal=USR1@300'"


@pytest.fixture
def recorded(monkeypatch):
    """A cluster whose commands print what was recorded."""
    by_command = {c: name for name, c in (sites_of.COMMANDS | sites_of.ACCOUNTING).items()}

    def ask(*command):
        name = by_command.get(command)
        if name not in sites.typed_20_11():
            raise DecurError(f"{command[0]}: not here")
        return sites.typed_20_11()[name]

    monkeypatch.setattr(sites_of, "ask", ask)


def test_the_file_is_written_once_changed_only_if_ours_and_read_by_snakemake(
    recorded, tmp_path, capsys
):
    folder = tmp_path / "my site"
    words = ["doctor", "--write-profile", str(folder)]
    assert main(words) == 0 and main(words) == 0
    told = capsys.readouterr()
    assert "gpu.q" in told.out
    path = folder / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    assert (folder / tree["configfile"]).samefile(HOME / "config" / "paper.yaml")
    path.write_text(path.read_text() + "# mine\n")
    assert main(words) == 1
    assert "was not written by decur, or was changed" in capsys.readouterr().err
    assert path.read_text().endswith("# mine\n")


def test_without_slurm_it_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["doctor", "--write-profile", str(tmp_path / "site")]) == 1
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 1 and "login node" in told.err
    assert not (tmp_path / "site").exists()


def test_the_base_is_found_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_base().samefile(HOME / "profiles" / "slurm" / "config.yaml")


def test_a_base_may_have_more_rules_than_those_with_threads():
    tree = yaml.safe_load(BASE)
    tree["set-resources"]["verify"] = {"mem_mb": "max(500000, 2000 * attempt)", "runtime": 60}
    text, notes = make_profile(parse(sites.typed_20_11()), yaml.safe_dump(tree))
    block = yaml.safe_load(text)["set-resources"]["verify"]
    assert eval(block["mem_mb"], {"attempt": 1}) == 257000 and block["runtime"] == 60
    assert "verify" in " ".join(notes)
