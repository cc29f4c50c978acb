"""Sounds: WAV files, features of their frames, augmentation, and the DataModules of sounds to be told apart or read."""
