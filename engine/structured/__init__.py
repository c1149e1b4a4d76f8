"""Output of a given form: grammars compiled beside the steps, one matcher per sequence, masks for the sampler."""
