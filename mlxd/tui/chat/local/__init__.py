"""What a chat has on this machine: its settings, its list of conversations, files for prompts."""
