# Pretrain: train both backbones of each run. Checkpoints beside the output are not declared, so they
# survive failure. So does a hard link to finished weights, in case Snakemake deletes the output.
# If a profile sets `launch` (srun, torchrun ...), it starts one process per GPU. `options` are passed
# to `decur pretrain`.


rule pretrain:
    input:
        lambda w: PATHS.card(SETTINGS[w.run].dataset),
    output:
        PATHS.weights("{run}"),
    log:
        PATHS.log("pretrain", "{run}"),
    benchmark:
        PATHS.benchmark("pretrain", "{run}")
    wildcard_constraints:
        run=one_of(SETTINGS.keys() - RELEASED),
    threads: 1
    resources:
        mem_mb=2500,
        runtime=60,
        launch="",
        options="",
    params:
        identity=lambda w: pretrain_identity(SETTINGS[w.run], PATHS),
        settings=lambda w, output: SETTINGS[w.run].model_dump_json(),
        shards=subpath(input[0], parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "{resources.launch} decur pretrain {resources.options} --settings {params.settings:q}"
        " --shards {params.shards:q} --out {params.folder:q} --threads {threads} 2> {log:q} >&2"


# The method `released` imports the authors' weights, and needs no data.
rule pretrain_released:
    input:
        lambda w: SETTINGS[w.run].released,
    output:
        PATHS.weights("{run}"),
    log:
        PATHS.log("pretrain", "{run}"),
    benchmark:
        PATHS.benchmark("pretrain", "{run}")
    wildcard_constraints:
        run=one_of(RELEASED),
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        identity=lambda w: pretrain_identity(SETTINGS[w.run], PATHS),
        pool=lambda w: ["--pool", "mean"] if SETTINGS[w.run].arch in MEAN_POOLED else [],
        folder=subpath(output[0], parent=True),
    shell:
        "decur weights import {input:q} {params.pool:q} --out {params.folder:q}"
        " 2> {log:q} >&2"


rule pretrain_all:
    """Make the backbone weights of every run that a table or figure needs."""
    input:
        [PATHS.weights(str(run)) for run in RUNS],
