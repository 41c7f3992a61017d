"""What OpenAI's APIs say alike."""
