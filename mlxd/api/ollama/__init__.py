"""The API that Ollama's clients speak: lines of JSON, and errors that are one text."""
