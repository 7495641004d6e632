# Preprocess: write paired shards, which are 8-bit arrays of both modalities, an index and a card.


# With `pieces: N`, N jobs write the shards of a large dataset. The rule `preprocess` then checks the
# shards, and writes index and card.
rule preprocess_piece:
    input:
        PATHS.manifest("{dataset}"),
    output:
        temp(touch(PATHS.piece("{dataset}", "{piece}"))),
    log:
        PATHS.log("preprocess", "{dataset}.pieces/{piece}"),
    benchmark:
        PATHS.benchmark("preprocess", "{dataset}.pieces/{piece}")
    wildcard_constraints:
        piece="[0-9]+-of-[0-9]+",
    threads: 2
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        identity=lambda w: preprocess_identity(
            w.dataset, CONFIG.datasets[w.dataset], PATHS
        ),
        settings=lambda w, output: preprocess_of(w).model_dump_json(),
        raw=subpath(input[0], parent=True),
        folder=lambda w, output: prefixed(
            PATHS.shards(w.dataset), output[0], PATHS.piece(w.dataset, w.piece)
        ),
    shell:
        "decur preprocess {wildcards.dataset} --settings {params.settings:q}"
        " --raw {params.raw:q} --out {params.folder:q} --piece {wildcards.piece}"
        " --threads {threads} 2> {log:q} >&2"


rule preprocess:
    input:
        PATHS.manifest("{dataset}"),
        pieces_of,
    output:
        PATHS.card("{dataset}"),
    log:
        PATHS.log("preprocess", "{dataset}"),
    benchmark:
        PATHS.benchmark("preprocess", "{dataset}")
    threads: 2
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        identity=lambda w: preprocess_identity(
            w.dataset, CONFIG.datasets[w.dataset], PATHS
        ),
        settings=lambda w, output: preprocess_of(w).model_dump_json(),
        raw=subpath(input[0], parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "decur preprocess {wildcards.dataset} --settings {params.settings:q}"
        " --raw {params.raw:q} --out {params.folder:q} --threads {threads} 2> {log:q} >&2"


rule preprocess_all:
    """Write the paired shards of every dataset."""
    input:
        [PATHS.card(dataset) for dataset in CONFIG.datasets],


rule verify:
    input:
        PATHS.card("{dataset}"),
    output:
        PATHS.verified("{dataset}"),
    log:
        PATHS.log("verify", "{dataset}"),
    benchmark:
        PATHS.benchmark("verify", "{dataset}")
    threads: 2
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        folder=subpath(input[0], parent=True),
    shell:
        "decur verify {params.folder:q} --threads {threads} > {output:q} 2> {log:q}"


rule verify_all:
    """Check every byte of every dataset's shards."""
    input:
        [PATHS.verified(dataset) for dataset in CONFIG.datasets],
