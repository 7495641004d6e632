# Transfer of pretrained backbones. One rule for each set of cells that a job evaluates: all cells of
# a run together (small nets, `transfer_together`), or each cell as a job of its own.


for number, (cells, runs) in enumerate(transfer_jobs().items(), start=1):

    rule:
        name:
            f"transfer_{number}"
        input:
            weights=PATHS.weights("{run}"),
            shards=[
                PATHS.card(dataset) for dataset in sorted({c.dataset for c in cells})
            ],
        output:
            [PATHS.metrics("{run}", str(cell)) for cell in cells],
        log:
            PATHS.log(f"transfer-{number}", "{run}"),
        benchmark:
            PATHS.benchmark(f"transfer-{number}", "{run}")
        wildcard_constraints:
            run="|".join(re.escape(str(run)) for run in runs),
        threads: 1
        resources:
            mem_mb=lambda w, attempt: (
                attempt * (2500 if CONFIG.transfer_together else 32000)
            ),
            runtime=60 if CONFIG.transfer_together else 1440,
            gpu=0 if CONFIG.transfer_together else 1,
        params:
            settings=lambda w, cells=cells: transfer_json(w.run, list(cells)),
            shards=lambda w, input: Path(input.shards[0]).parents[1],
            folder=PATHS.transfer("{run}"),
            cells=[str(cell) for cell in cells],
        shell:
            "decur transfer {params.cells:q} --settings {params.settings:q}"
            " --weights {input.weights:q} --shards {params.shards:q} --out {params.folder:q}"
            " --threads {threads} 2> {log:q} >&2"


rule transfer_all:
    """Metrics of every transfer run and factor probe."""
    input:
        [
            PATHS.metrics(str(run), str(cell))
            for run in TRANSFERS
            for cell in TRANSFERS[run]
        ],
