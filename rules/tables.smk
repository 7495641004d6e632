# Tables and figures, the paper's numbers beside ours. Collating takes whatever is there.

CONFIG_FILE = Path(PATHS.root) / "config.json"


def needed(experiment):
    """Products that an experiment is collated from."""
    if experiment.kind == "histogram":
        return [PATHS.alignment(str(run)) for run in alignment_runs([experiment], CONFIG)]
    wanted = transfer_runs([experiment], CONFIG)
    return [PATHS.metrics(str(run), str(cell)) for run in wanted for cell in wanted[run]]


def write_config():
    """Put the resolved config where the tables' jobs read it; jobs started later see the same."""
    text = CONFIG.model_dump_json(indent=1)
    if not CONFIG_FILE.is_file() or CONFIG_FILE.read_text() != text:
        CONFIG_FILE.parent.mkdir(parents=True, exist_ok=True)
        part = CONFIG_FILE.with_suffix(".part")
        part.write_text(text)
        part.replace(CONFIG_FILE)


write_config()

for name, experiment in EXPERIMENTS.items():

    rule:
        name:
            f"table_{name.replace('-', '_')}"
        input:
            needed(experiment),
        output:
            **{
                kind: report(
                    path,
                    category="Tables" if kind != "figure" else "Figures",
                    subcategory=experiment.title,
                    caption="../workflow/report/experiment.rst",
                    labels={"experiment": name, "file": kind},
                )
                for kind, path in outputs(name, experiment, PATHS).items()
            },
        params:
            entries=digest([experiment, entries(experiment, CONFIG)]),
            config=str(CONFIG_FILE),
            experiments=str(EXPERIMENTS_FILE),
            name=name,
            title=experiment.title,
            caption=experiment.caption,
        log:
            PATHS.log("tables", name),
        benchmark:
            PATHS.benchmark("tables", name)
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        shell:
            "decur tables --config {params.config:q} --experiments {params.experiments:q}"
            " --only {params.name} 2> {log:q} >&2"


rule tables:
    """Every table and figure of the scale, and all that they need."""
    input:
        [
            path
            for name, experiment in EXPERIMENTS.items()
            for path in outputs(name, experiment, PATHS).values()
        ],
