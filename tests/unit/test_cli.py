"""The command line: help, examples, one line for an error, quiet, completed by shells."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import decur
from decur.cli import command_line, main
from decur.cli.parser import Parser, Verbs
from decur.cli.run import TRACEBACK
from decur.config import EXPLAINERS
from decur.errors import DecurError

HOME = Path(__file__).parents[2]
CHECK = "check the path, its permissions and the free space"
HEAVY = {"torch", "numpy", "pandas", "pydantic", "yaml", "matplotlib", "rasterio", "shtab"}


def verbs(parser: argparse.ArgumentParser) -> dict[str, Parser]:
    """Every verb, those below others too, by what one types."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found |= verbs(below) or {below.prog: below}
    return found


VERBS = verbs(command_line())
EXAMPLES = [
    example
    for parser in (command_line(), *VERBS.values())
    for example in getattr(parser, "examples", ())
]


def run(*arguments, **options):
    command = [sys.executable, "-m", "decur", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_help_imports_nothing_heavy():
    code = "import sys; from decur.cli import main\n"
    code += "try: main(['--help'])\nexcept SystemExit: pass\n"
    code += f"sys.exit(', '.join({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "\n"


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_an_example_in_its_help(name):
    assert VERBS[name].examples
    shown = VERBS[name].format_help()
    assert all(example in shown and name in example for example in VERBS[name].examples)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_command_that_is_understood(example):
    words = shlex.split(example.split(" > ")[0].removeprefix('eval "$(').removesuffix(')"'))
    assert words[0] == "decur"
    args = command_line().parse_args(words[1:])
    assert callable(args.call)


def test_every_explainer_is_named_in_the_help():
    shown = VERBS["decur explain"].format_help()
    assert all(name in shown for name in EXPLAINERS)


@pytest.mark.parametrize("name", VERBS)
def test_flags_mean_the_same_in_every_verb(name):
    """One spelling, one type; `plan` passes Snakemake's own options on."""
    for action in VERBS[name]._actions:
        for other in VERBS.values():
            for same in other._actions:
                if set(same.option_strings) & set(action.option_strings):
                    assert same.option_strings == action.option_strings
                    assert same.type == action.type


def test_a_verb_may_have_verbs_of_its_own():
    parser = Parser(prog="decur")
    group = Verbs(parser).group("weights", "In and out.")
    group.add("export", print, "Out.", "decur weights export x").add_argument("file")
    args = parser.parse_args(["weights", "export", "--debug", "x"])
    assert (args.file, args.call, args.debug) == ("x", print, True)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nothing",),
        ("verify",),
        ("verify", "a", "--thread", "2"),
        ("download", "geonrw", "--out", "x", "--threads", "many"),
    ],
)
def test_a_wrong_command_is_one_line_that_points_to_help(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    told = capsys.readouterr()
    assert end.value.code == 2
    assert told.out == ""
    assert told.err.startswith("decur: error: ") and told.err.count("\n") == 1
    assert told.err.endswith("--help\n")


@pytest.mark.parametrize("arguments", [("--debug", "schema"), ("schema", "--debug"), ("schema",)])
def test_debug_is_accepted_before_and_after_the_verb(arguments):
    assert command_line().parse_args(arguments).debug == ("--debug" in arguments)


def failing(monkeypatch, error):
    def fail(args):
        raise error

    monkeypatch.setattr("decur.cli.environment._schema", fail)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DecurError("a.tif: bad\nvery\x1b[2J; fetch it"), "a.tif: bad very [2J; fetch it"),
        (
            FileNotFoundError(2, "No such file", "x"),
            f"x: No such file; {CHECK}",
        ),
    ],
)
def test_an_error_is_one_line(monkeypatch, capsys, error, line):
    failing(monkeypatch, error)
    assert main(["schema"]) == 1
    assert capsys.readouterr().err == f"decur: error: {line}\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("verify", "gone"), "gone"),
        (("tables", ".", "--experiments", "gone.yaml"), "gone.yaml"),
        (("plan", "--configfile", "gone.yaml"), "gone.yaml"),
        (("embed", "own.yaml", "a.png", "--out", "f.npy"), "own.yaml"),
        (("weights", "export", "own.yaml", "--format", "timm", "--out", "x"), "own.yaml"),
    ],
)
def test_a_path_that_is_not_what_it_should_be_is_named(
    tmp_path, monkeypatch, capsys, arguments, named
):
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("scale: own")
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("decur: error: ") and told.err.count("\n") == 1
    assert named in told.err and ";" in told.err
    assert [*tmp_path.iterdir()] == [tmp_path / "own.yaml"]


def test_debug_shows_where_an_error_is_from(monkeypatch, capsys):
    failing(monkeypatch, DecurError("bad"))
    assert main(["schema", "--debug"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback") and told.endswith("\ndecur: error: bad\n")


def test_a_bug_is_one_line_that_says_so(monkeypatch, capsys):
    failing(monkeypatch, KeyError("missing"))
    monkeypatch.delenv(TRACEBACK, raising=False)
    assert main(["schema"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("decur: error: KeyError: 'missing' (decur/cli/run.py:")
    assert told.endswith("; this is a bug: run again with --debug and report the traceback\n")


def test_a_package_that_is_missing_is_no_bug(monkeypatch, capsys):
    failing(monkeypatch, ModuleNotFoundError("No module named 'x'"))
    assert main(["schema"]) == 1
    assert capsys.readouterr().err.endswith("the installation is incomplete: run decur doctor\n")


def test_a_job_of_the_workflow_keeps_the_traceback_of_a_bug_alone(monkeypatch, capsys):
    monkeypatch.setenv(TRACEBACK, "1")
    failing(monkeypatch, KeyError("missing"))
    assert main(["schema"]) == 1
    assert capsys.readouterr().err.startswith("Traceback")
    failing(monkeypatch, DecurError("bad"))
    assert main(["schema"]) == 1
    assert capsys.readouterr().err == "decur: error: bad\n"


def test_a_reader_that_has_seen_enough_is_no_error():
    """As of `decur schema | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "decur", "schema"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_broken_pipe_is_an_error(monkeypatch, capsys):
    failing(monkeypatch, BrokenPipeError(32, "Broken pipe"))
    assert main(["schema"]) == 1
    assert "Broken pipe" in capsys.readouterr().err


def test_ctrl_c_is_one_word():
    code = (
        "import signal, sys, time; from decur.cli import environment, main\n"
        # Shells start what runs in the background deaf to it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "environment._schema = lambda args: (print('on', flush=True), time.sleep(60))\n"
        "sys.exit(main(['schema']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "on\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told == "\ninterrupted\n"


def test_nothing_but_the_answer_is_printed_where_there_is_no_terminal(shards_root):
    done = run("verify", str(shards_root))
    assert done.stdout == f"{shards_root}: every byte is as it was written\n"
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_completion_of_each_shell_knows_every_verb(capsys, shell):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for name in VERBS for word in name.split()[1:])
    assert "geonrw" in script and "saliency" in script


def test_bash_completes_a_verb_a_flag_and_a_data_set(tmp_path, capsys):
    main(["completion", "bash"])
    script = tmp_path / "decur.bash"
    script.write_text(capsys.readouterr().out)

    def completed(*words):
        line = f'source {shlex.quote(str(script))}; COMP_WORDS=({" ".join(words)} ""); '
        line = line.replace(' ""', "") + f"COMP_CWORD={len(words) - 1}; _shtab_decur; "
        line += 'echo "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert completed("decur", "prov") == ["provenance"]
    assert completed("decur", "verify", "--thr") == ["--threads"]
    assert completed("decur", "download", "geo") == ["geonrw"]


def test_the_page_of_the_command_line_shows_every_verb_and_its_examples():
    page = (HOME / "docs" / "command-line.md").read_text()
    for name, parser in VERBS.items():
        assert f"## `{name}`" in page
        assert f"{parser.description}\n" in page
        assert all(f"    {example}\n" in page for example in parser.examples)


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == decur.__version__


def test_schema_is_the_file_of_the_repository():
    assert json.loads(run("schema").stdout) == json.loads(
        (HOME / "config" / "schema.json").read_text()
    )
