"""Questions with answers: few-shot prompts, chains of thought, test-time compute, tool use."""
