# Tables and figures, the paper's numbers beside ours. Collating takes whatever is there, and seconds:
# not worth a place in a cluster's queue.


# First of all, so that results can be collated from then on.
rule config:
    input:
        EXPERIMENTS_FILE,
    output:
        config=PATHS.config(),
        experiments=PATHS.experiments(),
    log:
        PATHS.log("tables", "config"),
    benchmark:
        PATHS.benchmark("tables", "config")
    priority: 100
    localrule: True
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    params:
        identity=identity(CONFIG),
        text=lambda w, output: CONFIG.model_dump_json(indent=1),
    shell:
        "(cp {input:q} {output.experiments:q}"
        " && printf '%s' {params.text:q} > {output.config:q}.part"
        " && mv {output.config:q}.part {output.config:q}) 2> {log:q}"


# The report's headings, in the order of the data.
CATEGORIES = {
    "transfer": "1. Transfer",
    "ablations": "2. Ablations",
    "explain": "3. Explainability",
    "claims": "4. Claims",
}

for name, experiment in EXPERIMENTS.items():

    rule:
        name:
            f"table_{name.replace('-', '_')}"
        input:
            made_by_jobs(sources(experiment, CONFIG, PATHS)),
            # All of both; `entries` below says when the part that a table reads has changed.
            config=ancient(PATHS.config()),
            experiments=ancient(PATHS.experiments()),
        output:
            **{
                kind: report(
                    path,
                    category=CATEGORIES[experiment.stage],
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
            results=subpath(input.config, parent=True),
            name=name,
            title=experiment.title,
            caption=experiment.caption,
        shell:
            "decur tables {params.results:q} --only {params.name:q} 2> {log:q} >&2"


rule tables:
    """Every table and figure of the scale, and all that they need."""

    # The results too: tables that somebody collated before those were in would pass for done.
    input:
        rules.transfer_all.input,
        rules.explain_all.input,
        [
            path
            for name, experiment in EXPERIMENTS.items()
            for path in outputs(name, experiment, PATHS).values()
        ],


rule report:
    """One page with all of it, which opens without a network."""
    input:
        rules.tables.input,
        config=ancient(PATHS.config()),
    output:
        PATHS.report(),
    log:
        PATHS.log("tables", "report"),
    benchmark:
        PATHS.benchmark("tables", "report")
    localrule: True
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        results=subpath(input.config, parent=True),
    shell:
        "decur report {params.results:q} 2> {log:q} >&2"
