"""What the network has to be better than to earn its place."""

from __future__ import annotations

from typing import Any


def baselines(seed: int) -> dict[str, Any]:
    """Untrained scikit-learn classifiers by name."""
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "gradient boosting": GradientBoostingClassifier(random_state=seed),
    }
