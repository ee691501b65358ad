"""The engine: executes pipelines written in PipelineSpec, the text that the KFP SDK compiles to.

What happens to a job, module by module: `admission` accepts it as a `spec`; `runs` keeps it going; `dag` says which
task may start, with which `inputs`, under which `conditions`; `cache` may answer for it; `executors` run it, with
`placeholders` replaced; `journal` knows how far it came; `details` show it; `explain` says
why a task was executed or was not.
"""

from localvertex.engine.runs import Engine

__all__ = ["Engine"]
