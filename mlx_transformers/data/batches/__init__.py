"""What fills the slot `batch`: how rows of a split become the arrays of a step."""
