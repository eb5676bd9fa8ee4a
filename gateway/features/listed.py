"""The list of features, one line each; their order is the order in which guards are asked."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.errors import Reason, Reasons
from gateway.features.abuse_watch.feature import AbuseWatchFeature
from gateway.features.api_keys.feature import ApiKeysFeature
from gateway.features.introspection.feature import IntrospectionFeature
from gateway.features.rate_limits.feature import RateLimitsFeature
from gateway.features.resource_metadata.feature import ResourceMetadataFeature
from gateway.features.revocation.feature import RevocationFeature
from gateway.features.sender_constrained.feature import SenderConstrainedFeature
from gateway.features.single_use.feature import SingleUseFeature
from gateway.server.seam.feature import Feature

FEATURES: tuple[Feature, ...] = (
    ApiKeysFeature(),
    IntrospectionFeature(),
    RevocationFeature(),
    SenderConstrainedFeature(),
    AbuseWatchFeature(),
    RateLimitsFeature(),
    # A request that is one too many does not use up its token.
    SingleUseFeature(),
    ResourceMetadataFeature(),
)


def reasons(features: Iterable[Feature] = FEATURES) -> tuple[Reason, ...]:
    """Return every reason for which a gateway with these features refuses a request."""
    return (*Reasons.all(), *(reason for feature in features for reason in feature.reasons))
