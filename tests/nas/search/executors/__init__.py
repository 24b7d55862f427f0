import nas.search.executors  # noqa: F401  (before a test module imports ray, which reads its settings then)
