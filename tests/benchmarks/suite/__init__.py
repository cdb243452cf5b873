"""The benchmark: contenders, workloads, how they are measured and shown."""
