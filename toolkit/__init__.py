"""What the course gives the reader and does not ask them to build: models, timelines, workloads, exercise tooling."""
