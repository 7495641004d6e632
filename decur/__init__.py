"""DeCUR: learn decoupled common and unique representations of paired modalities."""

__version__ = "0.1.0"
