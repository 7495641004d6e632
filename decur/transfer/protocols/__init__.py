"""One module per protocol, or per family of protocols; see `decur.transfer.cell`."""
