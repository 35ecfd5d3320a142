"""From a prompt to a distribution over labels: model bundles, label engines, label scoring."""
