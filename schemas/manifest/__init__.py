"""JSON Schemas (2020-12) of the manifests. Editors use trueup.v1.json; `reconciler.core.schema` reads the others."""
