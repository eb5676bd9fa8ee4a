"""One exchange with an upstream: sending, the response, relaying it.

Every way out releases or closes the connection.
A response with two readings is refused, never repaired.
"""
