# Transfer of pretrained backbones: each cell a job of its own, or all cells of a run together (small
# nets, `transfer_together`), then with a rule for each set of cells.

TRANSFER = (
    "decur transfer {params.cells:q} --settings {params.settings:q}"
    " --weights {input.weights:q} --shards {params.shards:q} --out {params.folder:q} --threads {threads} 2> {log:q} >&2"
)

RUN_TO_METRICS = 5  # <data set>/<modalities>/<protocol>/<labels>/metrics.json

if CONFIG.transfer_together:

    for number, (cells, runs) in enumerate(transfer_sets().items(), start=1):

        rule:
            name:
                f"transfer_{number}"
            input:
                weights=PATHS.weights("{run}"),
                shards=[
                    PATHS.card(dataset)
                    for dataset in sorted({c.dataset for c in cells})
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
                mem_mb=2500,
                runtime=60,
            params:
                identity=lambda w, cells=cells: identity(transfer_of(w.run, cells)),
                settings=lambda w, output, cells=cells: transfer_of(
                    w.run, cells
                ).model_dump_json(),
                shards=lambda w, input: Path(input.shards[0]).parents[1],
                folder=subpath(output[0], ancestor=RUN_TO_METRICS),
                cells=[str(cell) for cell in cells],
            shell:
                TRANSFER

else:

    rule transfer:
        input:
            weights=PATHS.weights("{run}"),
            shards=PATHS.card("{dataset}"),
        output:
            PATHS.metrics("{run}", "{dataset}/{measured}"),
        log:
            PATHS.log("transfer", "{run}/{dataset}/{measured}"),
        benchmark:
            PATHS.benchmark("transfer", "{run}/{dataset}/{measured}")
        wildcard_constraints:
            measured="[^/]+/[^/]+/labels-[^/]+",
        threads: 1
        resources:
            mem_mb=lambda w, attempt: 32000 * attempt,
            runtime=1440,
            gpu=1,
        params:
            identity=lambda w: identity(
                transfer_of(w.run, [Cell.parse(f"{w.dataset}/{w.measured}")])
            ),
            settings=lambda w, output: transfer_of(
                w.run, [Cell.parse(f"{w.dataset}/{w.measured}")]
            ).model_dump_json(),
            shards=subpath(input.shards, ancestor=2),
            folder=subpath(output[0], ancestor=RUN_TO_METRICS),
            cells="{dataset}/{measured}",
        shell:
            TRANSFER


rule transfer_all:
    """Metrics of every transfer run and factor probe."""
    input:
        [
            PATHS.metrics(str(run), str(cell))
            for run in TRANSFERS
            for cell in TRANSFERS[run]
        ],
