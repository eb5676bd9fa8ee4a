"""The running server of one worker: sockets, lanes, the steps of a request, the admin port.

`seam` says what a feature may be; the other folders are the core.
Grammar, rules and tokens are judged below; here they are put in order.
"""
