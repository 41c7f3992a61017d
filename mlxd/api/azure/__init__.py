"""Azure OpenAI: OpenAI's APIs at Azure's paths."""
