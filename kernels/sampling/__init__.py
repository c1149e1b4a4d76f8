"""From logits to tokens: the greedy choice, drawing with cuts, penalties and log-probabilities."""
