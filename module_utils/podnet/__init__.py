"""podnet's core: pure Python that plans a pod network, and a thin edge to the kernel.

Everything here that runs on hosts uses the standard library alone and Python 3.8 syntax.
"""
