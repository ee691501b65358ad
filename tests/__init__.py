"""The tests, in folders that mirror the rooms. A package: a dependency brings another of this name."""
