"""An engine without a model, which plays written events."""
