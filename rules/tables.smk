# Tables and figures, the paper's numbers beside ours. Collating takes whatever is there, and seconds:
# not worth a place in a cluster's queue.


rule config:
    output:
        PATHS.config(),
    log:
        PATHS.log("tables", "config"),
    benchmark:
        PATHS.benchmark("tables", "config")
    localrule: True
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    params:
        text=CONFIG.model_dump_json(indent=1),
    shell:
        "printf '%s' {params.text:q} > {output:q} 2> {log:q}"


# The report's headings, in the order of the data.
STAGES = {
    "transfer": "1. Transfer",
    "ablations": "2. Ablations",
    "explain": "3. Explainability",
}

for name, experiment in EXPERIMENTS.items():

    rule:
        name:
            f"table_{name.replace('-', '_')}"
        input:
            sources(experiment, CONFIG, PATHS),
            # The whole config; `entries` below says when the part that a table reads has changed.
            config=ancient(PATHS.config()),
        output:
            **{
                kind: report(
                    path,
                    category=STAGES[experiment.stage],
                    subcategory=experiment.title,
                    caption="../workflow/report/experiment.rst",
                    labels={"experiment": name, "file": kind},
                )
                for kind, path in outputs(name, experiment, PATHS).items()
                if kind != "json"
            },
            json=outputs(name, experiment, PATHS)["json"],
        log:
            PATHS.log("tables", name),
        benchmark:
            PATHS.benchmark("tables", name)
        localrule: True
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            entries=digest([experiment, entries(experiment, CONFIG)]),
            experiments=EXPERIMENTS_FILE,
            name=name,
            title=experiment.title,
            caption=experiment.caption,
        shell:
            "decur tables --config {input.config:q} --experiments {params.experiments:q}"
            " --only {params.name} 2> {log:q} >&2"


rule tables:
    """Every table and figure of the scale, and all that they need."""
    input:
        [
            path
            for name, experiment in EXPERIMENTS.items()
            for path in outputs(name, experiment, PATHS).values()
        ],
