"""What an optional feature may be: its declaration, and its part in one running worker.

Only the core's side of the seam lives here; the features are in ``gateway/features``,
one folder each, and the core imports none of them. The danger of this file is a
hook that nothing uses: each has a user, and the order of the list of features is
the order in which they are asked.
"""

from __future__ import annotations

from gateway.errors import Reason


class Feature:
    """Declare one feature. It is stateless; the list of features has one of each.

    Attributes:
        name: as its folder is called.
        reasons: why it refuses requests.
    """

    name = ""
    reasons: tuple[Reason, ...] = ()
