# Download: get each dataset's raw files in its official layout, from scenes, samples or archives.


rule download:
    output:
        PATHS.manifest("{dataset}"),
    log:
        PATHS.log("download", "{dataset}"),
    benchmark:
        PATHS.benchmark("download", "{dataset}")
    threads: 2
    resources:
        mem_mb=2000,
        runtime=lambda w: 60 if CONFIG.datasets[w.dataset].source == "scenes" else 1440,
    params:
        identity=lambda w: download_identity(
            w.dataset, CONFIG.datasets[w.dataset], PATHS
        ),
        settings=download_json,
        folder=subpath(output[0], parent=True),
    shell:
        "decur download {wildcards.dataset} --settings {params.settings:q}"
        " --out {params.folder:q} --threads {threads} 2> {log:q} >&2"


rule download_weights:
    output:
        PATHS.released("{file}"),
    log:
        PATHS.log("download", "{file}"),
    benchmark:
        PATHS.benchmark("download", "{file}")
    wildcard_constraints:
        file=one_of(BY_NAME),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "decur weights fetch {wildcards.file:q} --out {params.folder:q} 2> {log:q} >&2"


rule download_all:
    """Get the raw files of every dataset."""
    input:
        [PATHS.manifest(dataset) for dataset in CONFIG.datasets],
