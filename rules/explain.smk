# What the embeddings hold: cross-modal alignment of every dimension, and an estimate of how many
# should be common.


rule alignment:
    input:
        weights=PATHS.weights("{run}"),
        shards=lambda w: PATHS.card(SETTINGS[w.run].dataset),
    output:
        PATHS.alignment("{run}"),
    log:
        PATHS.log("explain", "{run}"),
    benchmark:
        PATHS.benchmark("explain", "{run}")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=lambda w: alignment_settings(
            CONFIG, Run.parse(w.run)
        ).model_dump_json(),
        shards=subpath(input.shards, parent=True),
    shell:
        "decur align --settings {params.settings:q} --weights {input.weights:q}"
        " --shards {params.shards:q} --out {output:q} --threads {threads} 2> {log:q} >&2"


rule share:
    input:
        weights=PATHS.weights("{run}"),
        shards=lambda w: PATHS.card(SETTINGS[w.run].dataset),
    output:
        PATHS.share("{run}"),
    log:
        PATHS.log("share", "{run}"),
    benchmark:
        PATHS.benchmark("share", "{run}")
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        settings=lambda w: share_settings(CONFIG, Run.parse(w.run)).model_dump_json(),
        shards=subpath(input.shards, parent=True),
    shell:
        "decur share --settings {params.settings:q} --weights {input.weights:q}"
        " --shards {params.shards:q} --out {output:q} --threads {threads} 2> {log:q} >&2"


rule explain_all:
    """Cross-modal alignment and share of every run that a figure shows."""
    input:
        [PATHS.share(str(run)) for run in SHARES],
        [PATHS.alignment(str(run)) for run in ALIGNMENTS],
