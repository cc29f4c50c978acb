"""Labelled sequences: texts, series, images read line by line and sounds, each with the class that it belongs to."""
