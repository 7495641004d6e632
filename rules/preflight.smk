# Preflight: run a short job of each class on this cluster, and print one table of their findings.
# These rules are not part of `all`; they run on request, with `snakemake preflight --profile ...`.

# The classes of jobs, and the stage that each represents.
CLASSES = {
    "download": "download",
    "cpu": "preprocess",
    "pretrain": "pretrain",
    "transfer": "transfer",
    "explain": "explain",
}

for name, stage in CLASSES.items():

    # A job that fails writes a record of its failure, so the others can continue.
    rule:
        name:
            f"preflight_{name}"
        input:
            ancient(PATHS.config()),
            ancient(PATHS.experiments()),
        output:
            PATHS.preflight(name),
        log:
            PATHS.log("preflight", name),
        retries: 0
        resources:
            launch="",
        params:
            job=name,
            results=subpath(input[0], parent=True),
        shell:
            "{resources.launch} decur preflight {params.job:q} {params.results:q} --out {output:q} --threads {threads}"
            " 2> {log:q} >&2"
            " || decur preflight {params.job:q} {params.results:q} --out {output:q} --lost {log:q}"

    # A job requests the same resources as the jobs of its stage, in any profile, but less time.
    asked = getattr(rules, f"preflight_{name}").rule.resources
    asked.update(getattr(rules, stage).rule.resources)
    asked["runtime"] = 20


rule preflight:
    """Run a short job of each class, and list changes for the profile or the config."""
    input:
        config=ancient(PATHS.config()),
        records=[PATHS.preflight(name) for name in CLASSES],
    log:
        PATHS.log("preflight", "table"),
    retries: 0
    localrule: True
    params:
        results=subpath(input.config, parent=True),
    # The records are deleted, so that the next preflight repeats all checks.
    shell:
        "decur preflight table {params.results:q} 2> {log:q} && rm {input.records:q}"
