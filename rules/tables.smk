# Tables: collate results into tables and figures, next to the paper's numbers. This takes seconds, so
# it runs locally and not in a cluster's queue. Missing results are allowed.


# This rule runs first, so that `decur tables` works from then on.
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


# The headings of Snakemake's report, in pipeline order.
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
            # Both contain all settings; `entries` below changes only with the part that the table reads.
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
    """Make every table and figure of the scale, and all results that they need."""

    # Results are inputs too: otherwise tables from incomplete results would count as finished.
    input:
        rules.transfer_all.input,
        rules.explain_all.input,
        [
            path
            for name, experiment in EXPERIMENTS.items()
            for path in outputs(name, experiment, PATHS).values()
        ],


rule report:
    """Write one page with all tables and figures, which works offline."""
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
