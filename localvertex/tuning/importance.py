"""How much each hyperparameter mattered in a search, by functional ANOVA.

A random forest is fitted to the trials' results, and the variance of its predictions over the search space is divided
among the parameters: Hutter, Hoos and Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter
Importance", as Optuna has it.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.cloud.aiplatform_v1.types import StudySpec

from localvertex.tuning.suggest import Past, memory

FEWEST_TRIALS = 4
_SEED = 0


def importance(study: StudySpec, past: Sequence[Past]) -> dict[str, float]:
    """The share of each parameter in what made results differ, the largest first; they add up to 1.

    Args:
        study: what was searched.
        past: the trials.

    Returns:
        By parameter id, of those that every trial had and that took more than one value; empty where fewer than
        FEWEST_TRIALS trials have a result, or all results are equal.
    """
    import optuna

    done = [trial for trial in past if trial.feasible and trial.scores]
    if len(done) < FEWEST_TRIALS or len({trial.scores[0] for trial in done}) < 2:
        return {}
    everywhere = set.intersection(*(set(trial.values) for trial in done))
    varied = [name for name in sorted(everywhere) if len({trial.values[name] for trial in done}) > 1]
    if not varied:
        return {}
    return optuna.importance.get_param_importances(
        memory(study, done),
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=_SEED),
        params=varied,
        target=lambda trial: trial.values[0],
    )
