"""Manifests: Merkle trees that say which chunks and holes a content is made of."""
