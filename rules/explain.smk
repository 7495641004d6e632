# Explain: apply each explainer to each run that a figure needs. Checkpoints are not declared as
# outputs, so they survive failure. `options` are passed to `decur explain`.


rule explain:
    input:
        weights=PATHS.weights("{run}"),
        shards=lambda w: PATHS.card(SETTINGS[w.run].dataset),
    output:
        csv=PATHS.explain("{run}", "{kind}"),
        json=PATHS.explain("{run}", "{kind}", "json"),
    log:
        PATHS.log("explain", "{run}/{kind}"),
    benchmark:
        PATHS.benchmark("explain", "{run}/{kind}")
    wildcard_constraints:
        kind="|".join(EXPLAINERS),
    threads: 1
    resources:
        mem_mb=2500,
        runtime=60,
        options="",
    params:
        identity=lambda w: identity(explain_of(w)),
        settings=lambda w, output: explain_of(w).model_dump_json(),
        shards=subpath(input.shards, parent=True),
    shell:
        "decur explain {resources.options} {wildcards.kind} --settings {params.settings:q} --weights {input.weights:q}"
        " --shards {params.shards:q} --out {output.csv:q} --threads {threads} 2> {log:q} >&2"


rule explain_all:
    """Apply every explainer to every run that a figure needs."""
    input:
        [PATHS.explain(str(run), kind) for run, kind in EXPLAINED],
