"""The monitor of an endpoint, one pipeline for all systems: have its requests drifted from what its model learned?

requests reads the log; where there is anything in it, skew holds it against the statistics of the training examples.
Drift takes the same way out as failures do: notify writes a record of it, and posts it to the webhook.
"""

from kfp import dsl

import components
from pipelines import settings


def monitor(system: str) -> dsl.base_component.BaseComponent:
    """Makes the pipeline `<system>-monitor`.

    Args:
        system: a folder of `images/trainer/systems`.
    """
    images = components.Images(settings.build().registry, system)

    @dsl.pipeline(name=f"{system}-monitor", description="Logged requests against the training examples.")
    def monitor(
        endpoint_name: str, most_requests: int, skew_threshold: float, webhook: str = "", webhook_secret: str = ""
    ) -> None:
        """The graph.

        Args:
            endpoint_name: display name of the endpoint.
            most_requests: how many are compared, the latest ones.
            skew_threshold: Jensen-Shannon distance up to which a feature of the requests passes; from 0 to 1.
            webhook: URL that failures and drift are posted to; empty: nowhere.
            webhook_secret: version of a secret in Secret Manager that goes with them; empty: the environment's.
        """
        notify = components.notify(images["notify"])(webhook=webhook, webhook_secret=webhook_secret)

        with dsl.ExitHandler(notify.set_caching_options(False)):
            logged = components.requests_log(images["requests"])(endpoint_name=endpoint_name, most=most_requests)
            logged.set_caching_options(False)

            with dsl.If(logged.outputs["count"] > 0, name="something was logged"):
                components.skew(system, images["skew"])(
                    examples=logged.outputs["examples"], data=logged.outputs["requests"], threshold=skew_threshold
                )

    return monitor
