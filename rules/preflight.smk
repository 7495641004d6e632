# A short job of each class on the cluster at hand, and one table of what each of them found. None of
# it is part of `all`: `snakemake preflight --profile ...` asks for it.

# Each class, and the stage whose jobs it stands for.
CLASSES = {
    "download": "download",
    "cpu": "preprocess",
    "pretrain": "pretrain",
    "transfer": "transfer",
    "explain": "explain",
}

for name, stage in CLASSES.items():

    # A job that dies leaves a record of that, and the others go on.
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

    # A job asks for all that the jobs of its stage ask for, in any profile, but for less time.
    asked = getattr(rules, f"preflight_{name}").rule.resources
    asked.update(getattr(rules, stage).rule.resources)
    asked["runtime"] = 20


rule preflight:
    """One short job of each class, and what to change in the profile or the config."""
    input:
        config=ancient(PATHS.config()),
        records=[PATHS.preflight(name) for name in CLASSES],
    log:
        PATHS.log("preflight", "table"),
    retries: 0
    localrule: True
    params:
        results=subpath(input.config, parent=True),
    # Without its records, the next preflight makes all checks again.
    shell:
        "decur preflight table {params.results:q} 2> {log:q} && rm {input.records:q}"
