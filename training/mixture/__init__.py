"""Which examples a model is trained on, made of corpora as a recipe says."""
