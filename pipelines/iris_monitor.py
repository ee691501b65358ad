"""Watches the endpoint that tells irises apart: have its requests drifted from what its model was trained on?

Takes: some seconds.
Expect: nothing, while the requests are like the training rows; else a record, and a post to the webhook if one is set.
Run: make run PIPELINE=iris_monitor      compares the latest logged requests; they are logged where `logged_share`
                                         of the iris pipeline is above 0
"""

from kfp import dsl

import components
from pipelines import settings

BUILD = settings.build()
IMAGES = components.Images(BUILD.registry, system="iris")


@dsl.pipeline(name="iris-monitor", description="Logged requests against the statistics of the training rows.")
def iris_monitor(
    endpoint_name: str, most_requests: int, skew_threshold: float, webhook: str = "", webhook_secret: str = ""
) -> None:
    """The graph.

    Args:
        endpoint_name: display name of the endpoint.
        most_requests: how many are compared, the latest ones.
        skew_threshold: Jensen-Shannon distance up to which a column of the requests passes; from 0 to 1.
        webhook: URL that failures and drift are posted to; empty: nowhere.
        webhook_secret: version of a secret in Secret Manager that goes with them; empty: the environment's.
    """
    notify = components.notify(IMAGES["notify"])(webhook=webhook, webhook_secret=webhook_secret)

    with dsl.ExitHandler(notify.set_caching_options(False)):
        logged = components.requests_log(IMAGES["requests"])(endpoint_name=endpoint_name, most=most_requests)
        logged.set_caching_options(False)

        components.skew("iris", IMAGES["skew"])(
            examples=logged.outputs["examples"], data=logged.outputs["requests"], threshold=skew_threshold
        )
