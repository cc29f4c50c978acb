"""The task of writing speech down."""
