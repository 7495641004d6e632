"""Run the download stage: fetch, check and list or unpack archives into raw folders."""
