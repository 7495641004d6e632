# Transfer: evaluate pretrained backbones, with one job per cell or, for small networks
# (`transfer_together`), one job for all cells of a run. The output of the latter is a record of the
# cells. Their metrics are not declared, so they survive failure, and `--resume` continues from them.
# Checkpoints within a cell survive as well. `options` are passed to `decur transfer`.

if CONFIG.transfer_together:
    JOB, MADE = "{run}", PATHS.transferred("{run}")
    ASKED = {"mem_mb": 2500, "runtime": 60}
    RESUME = " --resume"
else:
    JOB, MADE = "{run}/{cell}", PATHS.metrics("{run}", "{cell}")
    ASKED = {"mem_mb": lambda w, attempt: 32000 * attempt, "runtime": 1440, "gpu": 1}
    RESUME = ""


rule transfer:
    input:
        weights=PATHS.weights("{run}"),
        shards=cards_of,
    output:
        MADE,
    log:
        PATHS.log("transfer", JOB),
    benchmark:
        PATHS.benchmark("transfer", JOB)
    threads: 1
    resources:
        **ASKED,
        options="",
    params:
        identity=lambda w: identity(transfer_of(w)),
        settings=lambda w, output: transfer_of(w).model_dump_json(),
        shards=lambda w, input: Path(input.shards[0]).parents[1],
        folder=lambda w, output: prefixed(
            PATHS.transfer(w.run), output[0], MADE.format(**dict(w.items()))
        ),
        cells=lambda w: [str(cell) for cell in cells_of(w)],
    shell:
        "decur transfer {resources.options} {params.cells:q} --settings {params.settings:q}"
        " --weights {input.weights:q} --shards {params.shards:q} --out {params.folder:q} --threads {threads}"
        f"{RESUME}"
        " 2> {log:q} >&2"


rule transfer_all:
    """Compute the metrics of every transfer evaluation and factor probe."""
    input:
        made_by_jobs(
            PATHS.metrics(str(run), str(cell))
            for run, cells in TRANSFERS.items()
            for cell in cells
        ),
