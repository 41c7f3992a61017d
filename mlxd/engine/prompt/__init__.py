"""From messages and tools to token ids, by the model's chat template."""
