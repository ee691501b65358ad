"""What differs from one system to the next: a folder each, the same roles in all.

How to add a system, here called `shapes`; nothing that exists is edited but two settings files:

1. `images/trainer/systems/shapes/`: one module for each role, as `images.trainer.roles` lists them, and `sample`,
   if a first run is to need no data (`images.trainer.sample.Generator`). A classifier takes its metrics, its outputs
   and most of its report from `images.trainer.classification`.
2. `pipelines/shapes.py`: the graph, a function named like the module, put together from `components`.
3. A section `shapes` in `pipelines/settings/local.yaml` and `production.yaml`: the values of the graph's parameters.

Then `make run PIPELINE=shapes` works, and images, caching, `make predict` and `make lineage` with it. The smallest
system there is, which a test adds and runs in this way: `tests/e2e/systems/quadrants/`.
"""
