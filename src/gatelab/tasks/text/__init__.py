"""Language modelling: the task, its generation, its ways to score beside the static one."""
