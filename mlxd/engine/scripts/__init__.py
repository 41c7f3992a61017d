"""What the scripted engine plays: written answers, script files, the built-in agent."""
