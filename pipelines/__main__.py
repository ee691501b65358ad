"""`python -m pipelines`: compile, run, ask and explain a pipeline."""

from pipelines.cli.main import main

if __name__ == "__main__":
    main()
