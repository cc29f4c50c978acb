"""What `gatelab explain` measures of a trained network, on a sample that its task reads."""
