"""OpenAI's Responses with its state: conversations, background, WebSocket."""
