"""The path of one request: the order of its steps, and the run that both lanes share.

Each step is a function of its own file elsewhere.
Every way out of a request passes one end, which counts it and logs it once.
"""
