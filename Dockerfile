# DeCUR for GPUs:
#   docker build --tag decur .
#   docker run --gpus all --ipc host --user "$(id -u)" --volume "$PWD:/work" decur doctor
# CUDA's libraries are among the requirements; the driver is the host's.
FROM python:3.12-slim-bookworm

# Expat is what rasterio's GDAL takes from the system; a compiler is for `compile` in the config.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libexpat1 \
    && rm -rf /var/lib/apt/lists/*

COPY requirements.lock /opt/decur/
RUN pip install --no-cache-dir --requirement /opt/decur/requirements.lock

COPY . /opt/decur
RUN pip install --no-cache-dir --no-deps /opt/decur

# A name and a home for whatever number `--user` gives: Snakemake does not start without a home.
RUN mkdir --mode=1777 /home/decur
ENV HOME=/home/decur USER=decur LOGNAME=decur

WORKDIR /work
ENTRYPOINT ["decur"]
CMD ["--help"]
