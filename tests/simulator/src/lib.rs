//! A seeded simulator of Azure Artifacts for tests, benches and the demo.
