"""How an OCI image becomes a root file system, step by step. `agent/drivers/image.py` puts the steps together.

reference.py  REGISTRY/NAME@sha256:DIGEST          fetch.py    manifest, sizes, layers: out of the registry
config.py     what the image says about its process unpack.py   layers -> folder -> squashfs
bounded.py    a program with a time and a size limit failures.py what went wrong, in the wire's reason codes
"""
