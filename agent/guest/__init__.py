"""What runs inside a guest, and how it is made. The contract with the agent's vm driver is CONTRACT.md.

`init/` is PID 1 (C). `build` makes vmlinuz and initramfs.cpio.gz from Debian's kernel package and `init/`.
"""
