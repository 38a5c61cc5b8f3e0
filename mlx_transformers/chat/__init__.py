"""Conversations with a model: prompts, tool calls and their results, answers piece by piece."""
