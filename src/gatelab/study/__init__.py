"""Many runs: `plan` checks a request and freezes its trials, `engine` runs them, `analysis` reads the results back."""
